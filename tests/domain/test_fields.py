"""What metadata columns are called in Milvus."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.fields import name_field, name_fields


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
