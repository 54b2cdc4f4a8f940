"""Waits between tries, with a clock of their own."""

from __future__ import annotations

from tasks.adapters.backoff import RetryPolicy


def waits(*, given: float | None = None, **policy: float) -> list[float]:
    slept: list[float] = []
    backoff = RetryPolicy(sleep=slept.append, clock=lambda: sum(slept), jitter=lambda: 0.5, **policy).start()
    while backoff.wait(given):
        pass
    assert backoff.tries == len(slept) + 1
    return slept


def test_waits_double_up_to_a_limit_and_half_of_each_is_random():
    assert waits(seconds=15, first=1, longest=5) == [0.75, 1.5, 3.0, 3.75, 3.75]


def test_no_wait_goes_past_the_end():
    assert waits(seconds=12, given=5) == [5, 5]
    assert waits(seconds=0) == []


def test_each_call_has_the_whole_time_to_itself():
    slept: list[float] = []
    policy = RetryPolicy(seconds=1, sleep=slept.append, clock=lambda: sum(slept))
    assert policy.start().wait(1)
    assert policy.start().wait(1)
