"""The law "Accounted rows": a shard whose rows do not add up is named, with every count."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.domain.errors import Permanent
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import Part, Quarantined, Seal


def part(first: int, stop: int, rows: int | None = None) -> Part:
    return Part(key=f"p{first}", first=first, stop=stop, rows=stop - first if rows is None else rows, bytes=1, sha256="0" * 64)


def seal(*parts: Part, **changed: Any) -> Seal:
    embedded = sum(p.rows for p in parts)
    facts: dict[str, Any] = {"source_rows": embedded, "embedded": embedded, "duplicates": 0, "quarantined": (), **changed}
    told = {"shard": "s1", "name": "docs.parquet", "group": "docs.parquet", "run": "r", "attempt": "r", "dim": 4}
    return Seal(**told, parts=parts, seconds=1, sealed_at="2026-11-21T00:00:00+00:00", **facts)


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
