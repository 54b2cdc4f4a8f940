"""The rate of loading follows what the server takes."""

from __future__ import annotations

import pytest

from tasks.domain.target.rate_limit import LOWEST_RATE, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock=clock, sleep=clock.sleep)


def load(throttle: Throttle, clock: Clock, *, batches: int, limit: float, rows: int = 1000) -> float:
    """Load against a server that refuses what is faster than `limit` rows/s; rows/s that came through."""
    begun, allowed, refusals = clock.now, clock.now, 0
    for _ in range(batches):
        while True:
            throttle.wait(rows)
            clock.sleep(rows / 50_000)  # what a call takes
            if clock.now >= allowed:
                break
            refusals += 1
            throttle.refused()
        allowed = clock.now + rows / limit
        throttle.taken(rows)
    return batches * rows / (clock.now - begun)


def test_a_server_that_takes_everything_is_not_slowed(throttle, clock):
    assert load(throttle, clock, batches=50, limit=1e9) == pytest.approx(50_000)
    assert throttle.rate is None


def test_the_rate_comes_to_rest_near_the_limit_and_under_it(throttle, clock):
    load(throttle, clock, batches=100, limit=5_000)
    assert 0.5 * 5_000 < load(throttle, clock, batches=400, limit=5_000) <= 5_000


def test_it_grows_again_when_the_server_takes_more(throttle, clock):
    load(throttle, clock, batches=50, limit=1_000)
    slow = throttle.rate
    load(throttle, clock, batches=400, limit=1e9)
    assert throttle.rate > 5 * slow


def test_refusals_side_by_side_count_as_one_and_never_stop_it(throttle, clock):
    throttle.taken(100_000)
    clock.sleep(10)
    assert [throttle.refused() for _ in range(4)] == [5_000.0] * 4
    for _ in range(40):
        clock.sleep(1)
        throttle.refused()
    assert throttle.rate == LOWEST_RATE
