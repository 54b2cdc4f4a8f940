"""Translates typed conditions on single fields, as chosen in a form, into Milvus' filter language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, JsonValue

from tasks.adapters.milvus.filters import literal
from tasks.domain.errors import BadInput
from tasks.domain.strict import Strict
from tasks.domain.target.fields import ELEMENTS, FieldType

Comparison = Literal["==", "!=", "<", "<=", ">", ">=", "contains", "starts with"]
_ORDER: tuple[Comparison, ...] = ("==", "!=", "<", "<=", ">", ">=")
_BOOLEANS = {"true": "true", "false": "false"}
INT64_RANGE = range(-(2**63), 2**63)


class FieldCondition(Strict):
    """`field` `is` `value`: a comparison of a field with a value."""

    field: str
    comparison: Comparison = Field("==", alias="is")
    value: JsonValue


def comparisons_of(kind: FieldType) -> tuple[Comparison, ...]:
    """The comparisons that a field type supports. JSON has none, since its keys are unknown: use an expression."""
    if kind in ELEMENTS:
        return ("contains",)
    return {"int64": _ORDER, "double": _ORDER, "bool": ("==",), "varchar": ("contains", "==", "!=", "starts with")}.get(kind, ())


def with_conditions(expression: str, conditions: Iterable[FieldCondition], kinds: Mapping[str, FieldType]) -> str:
    """Combine a free expression and conditions with `and`. `kinds`: the type of each field.

    Raises:
        BadInput: the field does not exist, or its type does not support the comparison or the value; names the field and valid choices.
    """
    each = [_expression(condition, kinds) for condition in conditions]
    free = [f"({expression})" if each else expression] if expression.strip() else []
    return " and ".join([*free, *each])


def _expression(condition: FieldCondition, kinds: Mapping[str, FieldType]) -> str:
    name, comparison = condition.field, condition.comparison
    kind = kinds.get(name)
    if kind is None:
        raise BadInput(f"where: there is no field '{name}': filter by {', '.join(kinds)}")
    allowed = comparisons_of(kind)
    if not allowed:
        raise BadInput(f"where: field '{name}' is {kind}: use a filter expression, as in {name}[\"key\"] == 1")
    if comparison not in allowed:
        raise BadInput(f"where: field '{name}' is {kind}, which has no '{comparison}': use {' or '.join(allowed)}")
    value = _value(name, ELEMENTS.get(kind, kind), condition.value)
    if kind in ELEMENTS:
        return f"array_contains({name}, {value})"
    if comparison in ("contains", "starts with"):
        pattern = str(condition.value).replace("%", r"\%").replace("_", r"\_")
        return f"{name} like {literal(f'%{pattern}%' if comparison == 'contains' else f'{pattern}%')}"
    return f"{name} {comparison} {value}"


def _value(name: str, kind: FieldType, value: JsonValue) -> str:
    """The value as a literal; numbers and booleans may be texts, as forms submit them."""
    text = str(value).strip() if not isinstance(value, bool) else str(value).lower()
    wrong = BadInput(f"where: field '{name}' is {kind}, and {value!r} is not")
    try:
        if kind == "varchar":
            return literal(str(value))
        if kind == "bool":
            return _BOOLEANS[text.lower()]
        if kind == "int64" and int(text) in INT64_RANGE:
            return str(int(text))
        if kind == "double" and abs(float(text)) < float("inf"):
            return repr(float(text))
    except (ValueError, KeyError):
        raise wrong from None
    raise wrong
