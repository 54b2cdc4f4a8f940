"""What metadata columns are called in Milvus."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.source import CsvSource
from tasks.domain.target.fields import SettledColumns, check_partition_key, name_fields, name_notes


def named(*columns: str, **names: str) -> dict[str, str]:
    return {field.column: field.name for field in name_fields(dict.fromkeys(columns, "varchar"), names=names)}


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("lang", "lang"),
        ("my-col", "my_col"),
        ("2nd", "_2nd"),
        ("größe", "grosse"),
        ("标题", "Biao_Ti"),
        ("заголовок", "zagolovok"),
        ("☃", "column"),
    ],
)
def test_a_column_becomes_a_readable_name_that_milvus_takes(column: str, name: str) -> None:
    assert named(column) == {column: name}


def test_columns_that_would_make_one_field_are_numbered() -> None:
    assert named("my-col", "my_col", "☃", "☂") == {"my-col": "my_col", "my_col": "my_col_2", "☃": "column", "☂": "column_2"}


@pytest.mark.parametrize("column", ["id", "vector", "text", "shard", "in", "Like", "and", "NOT", "true", "exists", "json_contains", "_seq"])
def test_a_name_that_no_field_can_have_or_no_filter_can_name_is_renamed_and_told(column: str) -> None:
    fields = name_fields({column: "varchar"})
    assert fields[0].name == f"{column}_"
    assert f"'{column}' is stored as field '{column}_', since '{column}' is a" in name_notes(fields)[0]


def test_names_that_are_given_are_taken_and_others_keep_clear_of_them() -> None:
    assert named("Biao Ti", "标题", 标题="Biao_Ti") == {"Biao Ti": "Biao_Ti_2", "标题": "Biao_Ti"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"metadata": {"a": "in"}}, "'in' is a word of Milvus' filter language"),
        ({"metadata": {"a": "text"}}, "'text' is a field that every collection has"),
        ({"metadata": {"a": "x", "b": "x"}}, "'x' is the field name of two columns"),
        ({"metadata": {"a": "标题"}}, "'标题' is not a valid field name"),
        ({"metadata": ["a"], "types": {"b": "text"}}, r"types: column 'b' is not in metadata \(a\)"),
    ],
)
def test_names_and_types_that_cannot_be_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CsvSource(**settings)


def test_what_was_found_first_stays() -> None:
    first = SettledColumns(types={"a": "int64"}, names={"a": "a"})
    assert first + SettledColumns(types={"a": "json", "b": "bool"}, names={}, inexact=("a", "b")) == SettledColumns(
        types={"a": "int64", "b": "bool"}, names={"a": "a"}, inexact=("b",)
    )


def test_a_partition_key_is_whole_numbers_or_texts_and_those_that_would_do_are_named() -> None:
    fields = name_fields({"the price": "double", "lang": "varchar", "year": "int64", "tags": "varchar[]"})
    for column in ("lang", "year"):
        check_partition_key(column, fields)
    for column, kind in (("the price", "double"), ("tags", r"varchar\[\]")):
        with pytest.raises(BadInput, match=f"'{column}' is {kind}, and a partition key needs .*metadata lang, year would do"):
            check_partition_key(column, fields)
    with pytest.raises(BadInput, match="none of this source's metadata columns has such a type"):
        check_partition_key("the price", fields[:1])
