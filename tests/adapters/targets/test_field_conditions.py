"""Conditions of a form, as the filter language of Milvus says them."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.adapters.targets.field_conditions import FieldCondition, with_conditions
from tasks.domain.errors import BadInput
from tasks.domain.target.fields import FieldType

KINDS: dict[str, FieldType] = {"id": "varchar", "year": "int64", "price": "double", "new": "bool", "tags": "varchar[]", "sizes": "int64[]"}
KINDS["more"] = "json"


def condition(field: str, comparison: str, value: Any) -> FieldCondition:
    return FieldCondition.model_validate({"field": field, "is": comparison, "value": value})


@pytest.mark.parametrize(
    ("field", "comparison", "value", "expression"),
    [
        ("id", "==", 'say "hi"', r'id == "say \"hi\""'),
        ("id", "contains", "50%_", r'id like "%50\\%\\_%"'),
        ("id", "starts with", "a", 'id like "a%"'),
        ("year", ">=", "2020", "year >= 2020"),
        ("year", "==", 2**63 - 1, "year == 9223372036854775807"),
        ("price", "<", " 1.5", "price < 1.5"),
        ("new", "==", True, "new == true"),
        ("new", "==", "False", "new == false"),
        ("tags", "contains", 'a"', r'array_contains(tags, "a\"")'),
        ("sizes", "contains", "3", "array_contains(sizes, 3)"),
    ],
)
def test_a_condition_says_what_is_meant(field: str, comparison: str, value: Any, expression: str) -> None:
    assert with_conditions("", [condition(field, comparison, value)], KINDS) == expression


def test_all_of_several_have_to_be_true() -> None:
    both = [condition("year", "<", 3), condition("id", "==", "a")]
    assert with_conditions("price > 1 or new", both, KINDS) == '(price > 1 or new) and year < 3 and id == "a"'
    assert with_conditions(" price > 1", [], KINDS) == " price > 1"
    assert with_conditions(" ", [], KINDS) == ""


@pytest.mark.parametrize(
    ("field", "comparison", "value", "said"),
    [
        ("yeer", "==", 1, "there is no field 'yeer': filter by id, year"),
        ("year", "contains", 1, "field 'year' is int64, which has no 'contains': use == or != or"),
        ("year", "==", "many", "field 'year' is int64, and 'many' is not"),
        ("year", "==", 2**63, "is int64, and 9223372036854775808 is not"),
        ("year", "==", True, "is int64, and True is not"),
        ("price", "==", "nan", "field 'price' is double, and 'nan' is not"),
        ("price", "==", None, "is double, and None is not"),
        ("new", "==", "yes", "field 'new' is bool, and 'yes' is not"),
        ("more", "==", 1, "field 'more' is json: use a filter expression, as in more[\"key\"] == 1"),
    ],
)
def test_a_mistake_names_the_field_and_what_it_takes(field: str, comparison: str, value: Any, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        with_conditions("", [condition(field, comparison, value)], KINDS)
    assert said in str(refused.value)
