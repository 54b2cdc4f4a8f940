"""Registries of the kinds of a job's parts, such as its source and its encoder.

An entry is a kind, or "module:NAME" of one, which is imported when a job first names the kind. So a kind can be one file with
settings and implementation that the domain does not import, and a job does not import the libraries of other kinds. The job's
schema, the run form and the messages read the registry on each use, so that tests can add kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, SchemaValidator, core_schema

from tasks.domain.errors import BadInput
from tasks.domain.job.ui_schema import Tabs
from tasks.domain.strict import Strict, kind_or

Settings = TypeVar("Settings", bound=Strict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[Settings]):
    """One kind. `settings`: a model whose field `kind` defaults to the kind's name; `form`: the model that the run form shows instead."""

    settings: type[Settings]
    form: type[BaseModel] | None = None


AnyKind = TypeVar("AnyKind", bound=Kind[Any])


def declared_at(path: str) -> Any:
    """Return the object at "module:name"; imports the module."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Kinds(Generic[AnyKind]):
    """A registry, and as an annotation (`Annotated[Base, REGISTRY]`) the union of its kinds' settings.

    Args:
        part: the part of the job, for messages.
        default: the kind of a document without `kind`.
        known: each kind, or "module:NAME" of it, by name, in the order of the run form's tabs (`tasks.domain.job.ui_schema`).
    """

    def __init__(self, part: str, *, default: str, known: Mapping[str, AnyKind | str]) -> None:
        self.part, self.default, self.known = part, default, dict(known)
        self._name_of = kind_or(default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __getitem__(self, name: str) -> AnyKind:
        """Return the kind of this name.

        Raises:
            BadInput: there is no such kind.
        """
        entry = self.known.get(name)
        if entry is None:
            raise BadInput(f"'{self.part}.kind' is '{name}', it must be one of {self._names()}")
        kind: AnyKind = declared_at(entry) if isinstance(entry, str) else entry
        return kind

    def _names(self) -> str:
        return ", ".join(f"'{name}'" for name in self.known)

    def _validated(self, value: object) -> object:
        name = self._name_of(value)
        if name not in self.known:
            raise PydanticKnownError("union_tag_invalid", {"discriminator": "kind", "tag": name, "expected_tags": self._names()})
        settings: type[BaseModel] = self[name].settings
        return _validator(name, settings).validate_python(value)

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        kinds = [self[name] for name in self.known]
        forms = tuple(dict.fromkeys(kind.form or kind.settings for kind in kinds))
        return Tabs(forms, default=self[self.default].settings()).__get_pydantic_json_schema__(schema, handler)


@cache
def _validator(name: str, settings: type[BaseModel]) -> SchemaValidator:
    """Return a validator of a union with one member, so that errors name the kind, as in any union (`tasks.domain.job.parse`)."""
    return SchemaValidator(core_schema.tagged_union_schema({name: settings.__pydantic_core_schema__}, discriminator=lambda _: name))
