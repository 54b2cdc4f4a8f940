"""What metadata columns are called in Milvus."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.target.fields import check_partition_key, name_field, name_fields


@pytest.mark.parametrize(("column", "name"), [("lang", "lang"), ("my-col", "my_col"), ("2nd", "_2nd"), ("größe", "gr__e")])
def test_a_column_becomes_a_name_that_milvus_takes(column: str, name: str) -> None:
    assert name_field(column) == name


def test_two_columns_that_make_one_field_are_refused_by_both_names() -> None:
    with pytest.raises(BadInput, match=r"'my-col' and 'my_col' make a field of the same name"):
        name_fields({"my-col": "varchar", "my_col": "varchar"})


@pytest.mark.parametrize("column", ["id", "vector", "text", "shard"])
def test_a_name_that_kitestring_uses_is_refused(column: str) -> None:
    with pytest.raises(BadInput, match="a name that Kitestring uses"):
        name_fields({column: "varchar"})


def test_a_partition_key_is_whole_numbers_or_texts_and_those_that_would_do_are_named() -> None:
    fields = name_fields({"the price": "double", "lang": "varchar", "year": "int64", "tags": "varchar[]"})
    for column in ("lang", "year"):
        check_partition_key(column, fields)
    for column, kind in (("the price", "double"), ("tags", r"varchar\[\]")):
        with pytest.raises(BadInput, match=f"'{column}' is {kind}, and a partition key needs .*metadata lang, year would do"):
            check_partition_key(column, fields)
    with pytest.raises(BadInput, match="none of this source's metadata columns is such"):
        check_partition_key("the price", fields[:1])
