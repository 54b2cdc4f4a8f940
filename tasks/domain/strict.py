"""The base of every value that crosses a process, a store or a user's hands."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and closed: an unknown key is refused, so a typo is never a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def kind_or(default: str) -> Callable[[object], str]:
    """Discriminate a union by `kind`, which may be left out for the default."""

    def kind(value: object) -> str:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(found)

    return kind
