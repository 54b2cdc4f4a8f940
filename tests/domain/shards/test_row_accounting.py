"""The law "Accounted rows": a shard whose rows do not add up is named, with every count."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.domain.errors import Permanent
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import Quarantined
from tests.builders.seals import part, seal


def test_rows_that_add_up_pass() -> None:
    aside = (Quarantined(row=3, id="k", reason="empty text"),)
    check_accounts(seal(part(0, 3), part(4, 9), source_rows=10, duplicates=1, quarantined=aside))


@pytest.mark.parametrize(
    "wrong",
    [
        {"source_rows": 11},  # a row was read and is nowhere
        {"source_rows": 9},  # a row is there that nobody read
        {"embedded": 9},
        {"duplicates": 1},
        {"quarantined": (Quarantined(row=0, id=None, reason="null id"),)},
    ],
)
def test_a_row_too_many_or_too_few_is_told_with_the_shards_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match=r"docs\.parquet.*source rows, but"):
        check_accounts(seal(part(0, 5), part(5, 10), **wrong))


def test_two_parts_with_the_same_row_are_told() -> None:
    with pytest.raises(Permanent, match=r"docs\.parquet.*two parts hold source row 4"):
        check_accounts(seal(part(0, 5), part(4, 9)))
