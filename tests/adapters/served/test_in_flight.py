"""How many requests are in flight, over a server that is simulated: it works on so many at a time, and the others wait in its queue."""

from __future__ import annotations

import heapq
import threading
from contextlib import ExitStack

import pytest

from tasks.adapters.served.in_flight import MOST_REQUESTS, InFlight


def settled(able: int, *, answers: int = 2_000, most: int | None = None, share: int | None = None) -> tuple[int, float]:
    """The limit that is come to, and answers a second of those that are possible, over the last half."""
    now, halfway = 0.0, 0.0
    gate = InFlight(most, clock=lambda: now, share=lambda: share)
    ends = [0.0] * able  # when each of the server's hands is free
    under_way: list[float] = []
    for done in range(answers):
        while len(under_way) < gate.limit:
            begin = max(now, heapq.heappop(ends))
            heapq.heappush(ends, begin + 1.0)
            heapq.heappush(under_way, begin + 1.0)
        now = heapq.heappop(under_way)
        gate.answered(100)
        halfway = now if done == answers // 2 else halfway
    return gate.limit, answers / 2 / (now - halfway) / able


@pytest.mark.parametrize("able", [1, 4, 16, 50])
def test_requests_are_raised_until_more_come_back_no_faster(able: int) -> None:
    limit, share = settled(able)
    assert able <= limit <= min(MOST_REQUESTS, 4 * able)
    assert share > 0.9


def test_a_number_that_the_job_says_is_kept() -> None:
    assert settled(16, most=3)[0] == 3


def test_no_more_than_this_hosts_share_is_sent_and_more_once_it_grows() -> None:
    share = 2
    gate = InFlight(8, share=lambda: share)
    with gate.slot(), gate.slot():
        third = threading.Thread(target=lambda: gate.slot().__enter__(), daemon=True)
        third.start()
        third.join(0.05)
        assert third.is_alive()
    third.join(10)
    assert not third.is_alive()
    share = 8
    with ExitStack() as stack:
        for _ in range(7):  # the third is still there
            stack.enter_context(gate.slot())


def test_a_number_that_is_found_stays_within_the_share() -> None:
    assert settled(50, share=4)[0] == 4


def test_a_busy_server_halves_them_once_for_all_that_were_refused_together() -> None:
    now, slept = 0.0, list[float]()
    gate = InFlight(clock=lambda: now + sum(slept), pause=slept.append)
    gate.limit = 32
    for _ in range(5):
        gate.too_busy(3.0)
    assert gate.limit == 16
    with gate.slot():
        assert slept == [3.0]
    gate.too_busy(0.0)
    assert gate.limit == 8


def test_who_is_alone_waits_for_the_others_and_they_for_it() -> None:
    gate, order = InFlight(8), list[str]()
    inside, done = threading.Event(), threading.Event()

    def alone() -> None:
        with gate.slot(alone=True):
            order.append("alone")
        done.set()

    with gate.slot():
        other = threading.Thread(target=alone)
        other.start()
        inside.wait(0.05)
        order.append("first")
    assert done.wait(10)
    other.join()
    assert order == ["first", "alone"]
    with gate.slot():
        order.append("after")
    assert order[-1] == "after"
