"""Texts are read as numbers a column at a time where that is what reading them one by one gives."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.rows import scalars as module
from tasks.adapters.rows.inferred_types import is_exact_number, type_of_strings
from tasks.adapters.rows.scalars import ScalarColumn, scalars
from tasks.domain.target.fields import FieldType

HARD = [
    "0",
    "-0",
    "007",
    "1.50",
    ".5",
    "5.",
    "00.5",
    "0.0",
    "-0.0",
    "1e5",
    "1.5e-7",
    "+5",
    "0x1F",
    "0xFFFFFFFF",
    "0.00001",
    "10.0",
    "100",
    "inf",
    "nan",
    "-",
    "1-2",
    "\u0661",
    "1_000",
    "3.3000000000000003",
]
LARGE = [
    "123456789012345",
    "1234567890123456",
    "123456789012345.5",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
]
NUMBERS = st.one_of(
    st.sampled_from([*HARD, *LARGE, "", " 5", "5 ", None]), st.integers().map(str), st.floats().map(repr), st.decimals().map(str)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBERS, max_size=4), st.sampled_from(["int64", "double"]))
def test_a_column_at_a_time_gives_what_one_by_one_gives(texts: list[str | None], kind: FieldType) -> None:
    values = pa.array(["x", *texts], pa.string()).slice(1)
    found = scalars(ScalarColumn(values, json=False), kind)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "are_exact_integers", lambda *_: False)
        patched.setattr(module, "are_exact_decimals", lambda *_: False)
        expected = scalars(ScalarColumn(values, json=False), kind)
    assert (found[0].to_pylist(), found[1]) == (expected[0].to_pylist(), expected[1])


def test_small_decimals_come_back_and_those_with_a_zero_too_many_do_not() -> None:
    assert [is_exact_number(text) for text in ("0.00001", "-0.000123", "5.0", "0.0", "5.10", "0.000010", "-0")] == [True] * 4 + [False] * 3
    assert type_of_strings(pa.array(["0.5", "0.00001"])) == "double"
