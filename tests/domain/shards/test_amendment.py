"""The law "Accounted rows" for seals and for what retries add to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import Permanent
from tasks.domain.shards.amendment import Amendment, amended
from tasks.domain.shards.row_accounting import check_accounts, fates_of
from tasks.domain.shards.seal import Part, Quarantined, Seal


def part(first: int, stop: int, rows: int, key: str = "") -> Part:
    return Part(key=key or f"part-{first}-{stop}", first=first, stop=stop, rows=rows, bytes=1, sha256="0" * 64)


def aside(*rows: int) -> tuple[Quarantined, ...]:
    return tuple(Quarantined(row=row, id=None, reason="empty: no text") for row in rows)


def seal(**changed: object) -> Seal:
    """Ten rows in two parts; 3 and 7 are in quarantine, 9 is a duplicate."""
    made = Seal(
        shard="s",
        name="docs.parquet",
        group="docs.parquet",
        run="r",
        attempt="a",
        dim=4,
        source_rows=10,
        embedded=7,
        duplicates=1,
        quarantined=aside(3, 7),
        parts=(part(0, 5, 4), part(5, 10, 3)),
        seconds=1,
        sealed_at="2026-11-21T00:00:00+00:00",
    )
    return made.model_copy(update=changed)


def amendment(number: int = 1, **changed: object) -> Amendment:
    """Row 3 works now, row 7 still does not."""
    made = Amendment(
        shard="s",
        number=number,
        run="r2",
        parts=(part(3, 4, 1, "again"),),
        recovered=(3,),
        quarantined=aside(7),
        seconds=1,
        amended_at="2026-11-22T00:00:00+00:00",
    )
    return made.model_copy(update=changed)


def test_a_seal_whose_counts_agree_is_good() -> None:
    check_accounts(seal())


@pytest.mark.parametrize(
    "changed",
    [
        {"source_rows": 11},
        {"source_rows": 9},
        {"embedded": 8},
        {"duplicates": 0},
        {"quarantined": aside(3)},
        {"parts": (part(0, 5, 4),)},
        {"parts": (part(0, 5, 4), part(5, 10, 4))},
    ],
    ids=str,
)
def test_a_lost_or_doubled_row_is_told_with_the_shards_name(changed: dict[str, object]) -> None:
    with pytest.raises(Permanent, match=r"docs\.parquet"):
        check_accounts(seal(**changed))


def test_two_parts_of_one_try_cannot_hold_the_same_rows() -> None:
    with pytest.raises(Permanent, match="two parts hold source row 4"):
        check_accounts(seal(parts=(part(0, 5, 4), part(4, 10, 3))))


def test_what_a_retry_recovered_moves_from_quarantine_to_embedded() -> None:
    effective = amended(seal(), [amendment()])
    fates = fates_of(effective, encoded_now=effective.embedded)
    assert (fates.source, fates.embedded, fates.duplicates, fates.quarantined) == (10, 8, 1, 1)
    assert [p.key for p in effective.parts] == ["part-0-5", "part-5-10", "again"]
    assert [p.amendment for p in effective.parts] == [0, 0, 1]
    assert [row.row for row in effective.quarantined] == [7]
    check_accounts(effective)


def test_retries_add_up() -> None:
    second = amendment(2, parts=(), recovered=(), duplicates=(7,), quarantined=())
    effective = amended(seal(), [amendment(), second])
    assert (effective.embedded, effective.duplicates, effective.quarantined) == (8, 2, ())


def test_a_retry_that_recovers_nothing_changes_only_reasons() -> None:
    still = tuple(row.model_copy(update={"reason": "still empty"}) for row in aside(3, 7))
    effective = amended(seal(), [amendment(parts=(), recovered=(), quarantined=still)])
    assert effective == seal(quarantined=still)


def test_no_amendment_changes_nothing() -> None:
    assert amended(seal(), []) == seal()


def test_an_amended_seal_is_another_one_to_the_ledger() -> None:
    assert amended(seal(), [amendment()]).digest != seal().digest


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shard": "other"}, "belongs to shard other"),
        ({"number": 2}, "expected amendment 1 of this shard"),
        ({"recovered": (4,), "parts": (part(4, 5, 1),)}, "rows 4, 7, but 3, 7 were in quarantine"),
        ({"quarantined": ()}, "rows 3, but 3, 7"),
        ({"duplicates": (7,)}, "rows 3, 7, 7"),
        ({"recovered": (3, 3)}, "rows 3, 3, 7"),
        ({"parts": ()}, "0 in parts|7 in parts"),
        ({"parts": (part(3, 4, 1), part(3, 4, 0))}, "0 rows in part-3-4, but 1 were recovered"),
        ({"parts": (part(3, 4, 1), part(3, 4, 1))}, "9 in parts"),
        ({"parts": (part(4, 5, 1),)}, "but 0 were recovered"),
        ({"parts": (part(3, 8, 2),)}, "2 rows in part-3-8, but 1 were recovered"),
    ],
    ids=str,
)
def test_an_amendment_that_does_not_fit_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        amended(seal(), [amendment(**wrong)])


@given(st.data())
def test_whatever_retries_do_no_row_is_lost(data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, 29)))
    now = Seal(
        **(
            seal().model_dump()
            | {
                "source_rows": 30,
                "embedded": 30 - len(bad),
                "duplicates": 0,
                "quarantined": aside(*bad),
                "parts": (part(0, 30, 30 - len(bad)),),
            }
        )
    )
    tries: list[Amendment] = []
    for number in range(1, data.draw(st.integers(1, 3)) + 1):
        works = {row for row in bad if data.draw(st.booleans())}
        bad = bad - works
        parts = tuple(part(row, row + 1, 1) for row in sorted(works))
        tries.append(amendment(number, parts=parts, recovered=tuple(works), quarantined=aside(*bad)))
    effective = amended(now, tries)
    assert effective.embedded + len(effective.quarantined) == 30
    assert {row.row for row in effective.quarantined} == bad
