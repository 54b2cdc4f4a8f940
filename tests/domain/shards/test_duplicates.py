"""A row that another shard owns counts as a duplicate, and the law "Accounted rows" holds."""

from __future__ import annotations

import pytest

from tasks.domain.job.parse import parse_job
from tasks.domain.shards.duplicates import Lost, Owners, owned, policy_of
from tasks.domain.shards.row_accounting import check_accounts, fates_of
from tests.builders.seals import part, seal


def test_lost_rows_are_duplicates_and_nothing_else_changes() -> None:
    whole = seal(part(0, 5), part(5, 10), source_rows=11, duplicates=1)
    left = owned(whole, Lost(seal=whole.digest, parts={0: 2, 1: 1}))
    check_accounts(left)
    assert (left.embedded, left.duplicates, [p.rows for p in left.parts]) == (7, 4, [3, 4])
    fates = fates_of(left, encoded_now=10, loaded=True)
    assert (fates.embedded, fates.reused, fates.duplicates, fates.loaded) == (7, 0, 4, 7)


def test_losses_of_another_seal_are_not_this_ones() -> None:
    mine, other = seal(part(0, 5)), seal(part(0, 6))
    owners = Owners(covers="", policy="first", settled=True, lost={"s1": Lost(seal=mine.digest, parts={0: 1})})
    found = owners.of(mine)
    assert found
    assert (found.parts, owners.of(other)) == ({0: 1}, None)


@pytest.mark.parametrize(("settings", "policy"), [({}, "refuse"), ({"on_duplicate": "last"}, "last")])
def test_where_keys_are_hashes_the_first_owns_whatever_is_said(settings: dict[str, str], policy: str) -> None:
    named = {"source": {"kind": "parquet", "uri": "x", "id": "id"}, "failures": settings}
    hashed = {"source": {"kind": "parquet", "uri": "x"}, "failures": settings}
    assert (policy_of(parse_job(named)), policy_of(parse_job(hashed))) == (policy, "first")
