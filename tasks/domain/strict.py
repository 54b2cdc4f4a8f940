"""Base classes of all values that users write, that are stored, or that are sent between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Strict(BaseModel):
    """Frozen; unknown keys are refused, so that a typo does not silently become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def kind_or(default: str) -> Callable[[object], str]:
    """Return a discriminator of a union by `kind`, which users may omit for the default."""

    def kind(value: object) -> str:
        name = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(name)

    return kind


class AddedLater:
    """Marks a setting that older documents do not have: `name: Annotated[str, ADDED_LATER] = Field("", ...)`."""


ADDED_LATER = AddedLater()


class Growing(Strict):
    """A stored value with fields that were added later. Those at their default are not written, so that older versions can read it."""

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if ADDED_LATER in field.metadata and getattr(self, name) == field.get_default(call_default_factory=True):
                dumped.pop(name, None)
        return dumped


def identifying(settings: BaseModel, *, exclude: set[str]) -> dict[str, Any]:
    """Return the settings that enter a digest. A setting that was added later is included only if it is not at its default, so that
    older documents keep their digests.
    """
    fields = type(settings).model_fields.items()
    later = {name: field.get_default(call_default_factory=True) for name, field in fields if ADDED_LATER in field.metadata}
    unset = {name for name, default in later.items() if getattr(settings, name) == default}
    return settings.model_dump(mode="json", exclude=exclude | unset)
