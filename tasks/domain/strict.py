"""The base of every value that crosses a process, a store or a user's hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Strict(BaseModel):
    """Frozen, and closed: an unknown key is refused, so a typo is never a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def kind_or(default: str) -> Callable[[object], str]:
    """Discriminate a union by `kind`, which may be left out for the default."""

    def kind(value: object) -> str:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(found)

    return kind


class AddedLater:
    """Marks a setting that documents already stored do not have: `name: Annotated[str, ADDED_LATER] = Field("", ...)`."""


ADDED_LATER = AddedLater()


class Growing(Strict):
    """A stored value with fields that were added later: one at its default is not written, so that older versions can read the rest."""

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if ADDED_LATER in field.metadata and getattr(self, name) == field.get_default(call_default_factory=True):
                dumped.pop(name, None)
        return dumped


def identifying(settings: BaseModel, *, exclude: set[str]) -> dict[str, Any]:
    """What of some settings goes into a digest. A setting that was added later counts only where it is not its default, so that what
    was stored before it keeps its name.
    """
    fields = type(settings).model_fields.items()
    later = {name: field.get_default(call_default_factory=True) for name, field in fields if ADDED_LATER in field.metadata}
    left = {name for name, default in later.items() if getattr(settings, name) == default}
    return settings.model_dump(mode="json", exclude=exclude | left)
