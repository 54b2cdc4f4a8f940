"""The base of every value that crosses a process, a store or a user's hands."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and closed: an unknown key is refused, so a typo is never a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
