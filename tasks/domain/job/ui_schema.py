"""Parts of a job's schema for the run form of the Prefect UI.

The form draws `anyOf` as tabs, one for each choice, named by the choice's title. It does not use `kind` to find
the tab of a value: it takes the first one that shares most keys with the value. So choices need keys of their own,
and those with few keys come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Auto = Annotated[Literal["auto"], Field(title="auto")]
Nothing = Annotated[None, Field(title="left out")]
Count = Annotated[int, Field(ge=1, title="number")]


@dataclass(frozen=True, slots=True)
class Tabs:
    """Represents a union in the schema as a choice between these models that opens at the default."""

    models: tuple[type[BaseModel], ...]
    default: BaseModel

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices: list[Any] = [handler(model.__pydantic_core_schema__) for model in self.models]
        return {"anyOf": choices, "default": self.default.model_dump(mode="json")} if len(choices) > 1 else choices[0]
