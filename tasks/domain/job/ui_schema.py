"""How a job's schema reads in the run form of the Prefect UI.

The form draws `anyOf` as tabs, one for each choice, named by the choice's title. It does not look at `kind` to find
the tab of a value: it takes the first one that shares most keys with it. So choices need keys of their own, and
those with few keys stand first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from tasks.domain.strict import kind_or

Auto = Annotated[Literal["auto"], Field(title="auto")]
Nothing = Annotated[None, Field(title="left out")]
Count = Annotated[int, Field(ge=1, title="number")]


@dataclass(frozen=True, slots=True)
class Tabs:
    """In the schema a union is a choice between these models, and opens at the default."""

    models: tuple[type[BaseModel], ...]
    default: BaseModel

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices: list[Any] = [handler(model.__pydantic_core_schema__) for model in self.models]
        return {"anyOf": choices, "default": self.default.model_dump(mode="json")} if len(choices) > 1 else choices[0]


@dataclass(frozen=True, slots=True)
class ByKind:
    """A value is of the registered model that its `kind` names, the default's where it names none; in the schema a choice, as `Tabs`."""

    models: Mapping[str, type[BaseModel]]
    default: str

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices: list[Any] = [handler(model.__pydantic_core_schema__) for model in self.models.values()]
        shown = choices[0] if len(choices) == 1 else {"anyOf": choices}
        return {**shown, "default": self.models[self.default]().model_dump(mode="json")}

    def _validate(self, value: object) -> BaseModel:
        kind = kind_or(self.default)(value)
        if kind not in self.models:
            known = ", ".join(repr(name) for name in self.models)
            told = {"discriminator": "kind", "tag": kind, "expected_tags": known}
            raise PydanticCustomError("union_tag_invalid", "'kind' is '{tag}', it must be one of {expected_tags}", told)
        return self.models[kind].model_validate(value)
