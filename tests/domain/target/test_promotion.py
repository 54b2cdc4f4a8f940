"""What follows from the moves of an alias: where a rollback leads, what no run promotes again, what may be dropped."""

from __future__ import annotations

import datetime as dt

from tasks.domain.target.promotion import Promotion, abandoned, is_rejected, is_written, outdated, previous, unfinished

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def moves(*steps: str) -> list[Promotion]:
    """'b<a' is a move of a run from a to b; 'a<b!' a rollback; an hour after the one before."""
    made = []
    for number, step in enumerate(steps):
        to, _, before = step.rstrip("!").partition("<")
        at = (NOON + dt.timedelta(hours=number)).isoformat()
        made.append(Promotion(collection=to, instead_of=before or None, by="rollback" if step.endswith("!") else "run", at=at))
    return made


def test_a_rollback_leads_to_what_was_live_before() -> None:
    assert list(previous(moves("a", "b<a", "c<b"), "c")) == ["b", "a"]


def test_a_second_rollback_goes_further_back_and_not_to_what_the_first_one_left() -> None:
    history = moves("a", "b<a", "c<b", "b<c!")
    assert list(previous(history, "b")) == ["a"]
    assert is_rejected(history, "c")
    assert not is_rejected(history, "b")


def test_what_was_promoted_by_hand_after_a_rollback_counts_again() -> None:
    history = moves("a", "b<a", "a<b!", "b<a")
    assert not is_rejected(history, "b")
    assert list(previous(history, "b")) == ["a"]


def test_nothing_was_live_before_the_first() -> None:
    assert list(previous(moves("a"), "a")) == []
    assert list(previous([], None)) == []


def test_a_collection_that_was_live_before_anybody_wrote_it_down_can_be_gone_back_to() -> None:
    assert list(previous(moves("b<old"), "b")) == ["old"]


def test_a_rollback_that_was_cut_short_is_known_and_a_promotion_is_left_to_its_run() -> None:
    history = moves("a", "b<a", "a<b!")
    assert unfinished(history, "b") == "a"
    assert unfinished(history, "a") is None
    assert unfinished(moves("a", "b<a"), "a") is None
    assert is_written(history, history[-1])
    assert not is_written(history, history[0])


def test_collections_are_dropped_when_they_are_old_enough_and_enough_newer_ones_are_kept() -> None:
    history = moves("a", "b<a", "c<b", "d<c")  # searches left a at 13 h, b at 14 h, c at 15 h
    now = NOON + dt.timedelta(hours=4)

    def old(keep: int, grace: float) -> list[str]:
        return outdated(history, kept={"d"}, keep_previous=keep, grace=grace, now=now)

    assert old(1, 0) == ["b", "a"]
    assert old(1, 3) == ["a"]
    assert old(1, 4) == []
    assert old(0, 0) == ["c", "b", "a"]
    assert old(3, 0) == []


def test_what_is_live_and_what_is_built_are_never_dropped() -> None:
    assert outdated(moves("a", "b<a", "a<b!"), kept={"a", "b"}, keep_previous=0, grace=0, now=NOON) == []


def test_a_collection_that_was_never_searched_goes_when_its_encoder_was_silent_for_a_day_and_for_the_grace_time() -> None:
    def gone(silent: dict[str, float], grace: float = 24) -> list[str]:
        now = NOON + dt.timedelta(hours=2)
        return abandoned(moves("a", "b<a"), silent, kept={"b", "own"}, keep_previous=1, grace=grace, now=now)

    assert gone({"never": 24, "b": 1_000, "own": 1_000, "a": 1_000}) == ["never"]
    assert gone({"never": 23.9}, grace=0) == []  # a run may be filling it
    assert gone({"never": 99}, grace=100) == []  # somebody may promote it yet


def test_a_collection_that_was_searched_goes_as_after_a_run_unless_one_fills_it() -> None:
    history, now = moves("a", "b<a", "c<b"), NOON + dt.timedelta(hours=50)

    def gone(silent: dict[str, float], keep: int = 1, grace: float = 24) -> list[str]:
        return abandoned(history, silent, kept={"c"}, keep_previous=keep, grace=grace, now=now)

    assert gone({"a": 30, "b": 30, "c": 30}) == ["a"]
    assert gone({"a": 3, "b": 30}) == []
    assert gone({"a": 30, "b": 30}, keep=0) == ["a", "b"]
    assert gone({"a": 30}, grace=72) == []
