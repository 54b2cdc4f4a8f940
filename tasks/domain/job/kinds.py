"""Registries of the kinds that a part of a job comes in, such as its source and its encoder.

A line of a registry is a kind, or "module:NAME" where one is declared: that module is imported when a job first names the kind. So a
kind can be one file, settings and implementation together, of which the domain imports nothing, and no job waits for the libraries of
another kind. The job's schema, the run form and the messages all read the registry when they are asked, so that tests can add to it.
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
    """One kind. `settings`: a model whose field `kind` has the kind's name as its default; `form`: what the run form shows in its place."""

    settings: type[Settings]
    form: type[BaseModel] | None = None


AnyKind = TypeVar("AnyKind", bound=Kind[Any])


def declared_at(path: str) -> Any:
    """What "module:name" stands for; imports the module."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Kinds(Generic[AnyKind]):
    """A registry, and as an annotation (`Annotated[Base, REGISTRY]`) the union of its kinds' settings.

    Args:
        part: of the job, for messages.
        default: the kind that is meant where a document names none.
        known: each kind by name, or where it is declared, in the order of the run form's tabs (`tasks.domain.job.ui_schema`).
    """

    def __init__(self, part: str, *, default: str, known: Mapping[str, AnyKind | str]) -> None:
        self.part, self.default, self.known = part, default, dict(known)
        self._name_of = kind_or(default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __getitem__(self, name: str) -> AnyKind:
        """The kind of this name.

        Raises:
            BadInput: there is none.
        """
        line = self.known.get(name)
        if line is None:
            raise BadInput(f"'{self.part}.kind' is '{name}', it must be one of {self._names()}")
        kind: AnyKind = declared_at(line) if isinstance(line, str) else line
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
    """Of a union of one: errors say which kind's settings they are about, as those of any union do (`tasks.domain.job.parse`)."""
    return SchemaValidator(core_schema.tagged_union_schema({name: settings.__pydantic_core_schema__}, discriminator=lambda _: name))
