"""What may be swept: named by no seal, silent for a day, and of no use to a run that may be at work."""

from __future__ import annotations

from tasks.domain.shards.garbage import PROTECTED_SECONDS, Activity, garbage

NOW = 100 * PROTECTED_SECONDS


def part(attempt: str, first: int = 0) -> str:
    return f"c/f/shards/s/{attempt}/part-{first:09d}-{first + 9:09d}.parquet"


def activity(*written: tuple[str, float]) -> Activity:
    """Parts, and how many days ago each was written."""
    seen = Activity(now=NOW)
    for key, days in written:
        seen.note(key, NOW - days * PROTECTED_SECONDS)
    return seen


def test_what_a_seal_names_stays_however_old() -> None:
    assert not list(garbage([part("a")], activity((part("a"), 50)), named={part("a")}))


def test_what_no_seal_names_goes_after_a_day() -> None:
    assert list(garbage([part("a")], activity((part("a"), 1.01)), named=set())) == [part("a")]
    assert not list(garbage([part("a")], activity((part("a"), 0.99)), named=set()))


def test_an_old_part_of_an_attempt_that_still_writes_stays() -> None:
    seen = activity((part("a"), 3), (part("a", 9), 0.5))
    assert not list(garbage([part("a")], seen, named=set()))


def test_parts_of_an_unsealed_shard_stay_while_any_run_may_be_about_to_name_them() -> None:
    quiet = activity((part("a"), 3))
    assert list(garbage([part("a")], quiet, named=None)) == [part("a")]
    busy = activity((part("a"), 3), ("c/f/runs/r/report.json", 0.1))
    assert not list(garbage([part("a")], busy, named=None))


def test_files_of_keys_go_by_their_own_age() -> None:
    old, young, owners = "c/f/shards/s/keys-a.parquet", "c/f/shards/s/keys-b.parquet", "c/f/owners/t/x.parquet"
    seen = activity((old, 2), (young, 0.5), (owners, 2))
    assert list(garbage([old, young, owners], seen, named=set())) == [old, owners]
    assert list(garbage([old, young], seen, named={old})) == []


def test_what_needs_no_name_is_never_garbage() -> None:
    seals = ["c/f/shards/s/seal.json", "c/f/shards/s/amend-0001.json", "c/f/owners/t.json", "c/f/loads/t/s.json", "c/f/encoder.json"]
    assert list(garbage(seals, activity(*((key, 50) for key in seals)), named=set())) == []
