"""Ranks played by threads, which step together whatever each of them has to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tasks.worker.encoding_errors import Fatal
from tasks.worker.optimize import lockstep
from tasks.worker.optimize.lockstep import Lockstep

SECONDS = 20.0


class Launch:
    """Ranks that exchange numbers at a barrier; aborting it is the death of one."""

    def __init__(self, ranks: int) -> None:
        self.barrier = threading.Barrier(ranks, timeout=SECONDS)
        self.said = [0] * ranks

    def exchange_of(self, rank: int) -> Callable[[int], list[int]]:
        def exchange(number: int) -> list[int]:
            self.said[rank] = number
            self.barrier.wait()
            told = list(self.said)
            self.barrier.wait()  # nobody says the next number before all have heard this one
            return told

        return exchange


class Model:
    """Computes only when every rank does: twice the number of a batch, and fails below zero."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.joined = barrier, 0

    def compute(self, inputs: dict[str, Any]) -> int:
        self.barrier.wait()
        if inputs["number"] < 0:
            raise ValueError("below zero")
        return 2 * int(inputs["number"])

    def join(self) -> None:
        self.barrier.wait()
        self.joined += 1


@pytest.fixture
def launch() -> Launch:
    return Launch(2)


@pytest.fixture
def models(launch: Launch) -> list[Model]:
    together = threading.Barrier(2, timeout=SECONDS)
    return [Model(together), Model(together)]


@pytest.fixture
def ranks(launch: Launch, models: list[Model], monkeypatch: pytest.MonkeyPatch) -> list[Lockstep]:
    monkeypatch.setattr(lockstep, "SECONDS_TO_BE_ENDED", 0.0)
    steps = [Lockstep(model, launch.exchange_of(rank)) for rank, model in enumerate(models)]
    for each in steps:
        each.start()
    return steps


def leave(ranks: list[Lockstep]) -> None:
    with ThreadPoolExecutor(len(ranks)) as pool:
        list(pool.map(lambda rank: rank.leave(lambda: True), ranks))


def test_a_rank_without_work_joins_in_every_step_of_another(ranks: list[Lockstep], models: list[Model]) -> None:
    assert [ranks[0].compute({"number": n}) for n in range(5)] == [0, 2, 4, 6, 8]
    leave(ranks)
    assert models[1].joined == 5


def test_a_rank_that_leaves_goes_on_joining_until_all_do(ranks: list[Lockstep], models: list[Model]) -> None:
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(ranks[1].leave, lambda: True)
        assert [ranks[0].compute({"number": n}) for n in (1, 2)] == [2, 4]
        assert not gone.done()
        leave(ranks[:1])
        gone.result(SECONDS)
    assert models[1].joined == 2


def test_a_batch_that_fails_fails_alone(ranks: list[Lockstep]) -> None:
    with pytest.raises(ValueError, match="below zero"):
        ranks[0].compute({"number": -1})
    assert [ranks[0].compute({"number": 1}), ranks[1].compute({"number": 2})] == [2, 4]
    leave(ranks)


def test_two_ranks_with_work_each_get_their_own_results(ranks: list[Lockstep]) -> None:
    def work(rank: int) -> list[int]:
        return [ranks[rank].compute({"number": 100 * rank + n}) for n in range(20)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (0, 1))) == [[2 * n for n in range(20)], [200 + 2 * n for n in range(20)]]
    leave(ranks)


@pytest.fixture
def one_dies(models: list[Model], launch: Launch) -> None:
    """In the first step, after it has lent its weights."""
    join = models[1].join

    def die() -> None:
        join()
        launch.barrier.abort()

    models[1].join = die  # type: ignore[method-assign]


@pytest.mark.usefixtures("one_dies")
def test_the_death_of_a_rank_ends_the_others(ranks: list[Lockstep]) -> None:
    assert ranks[0].compute({"number": 1}) == 2
    for _ in range(2):
        with pytest.raises(Fatal, match="a rank that shares the model's weights has exited"):
            ranks[0].compute({"number": 1})
    with pytest.raises(Fatal, match="has exited"):
        ranks[0].leave(lambda: True)


@pytest.mark.usefixtures("one_dies")
def test_a_batch_that_fails_as_a_rank_dies_is_not_to_blame(ranks: list[Lockstep]) -> None:
    """Gathering weights fails then as well: its row would be set aside for good."""
    with pytest.raises(Fatal, match="has exited"):
        ranks[0].compute({"number": -1})


def test_a_rank_that_has_to_end_does_not_wait_for_others(ranks: list[Lockstep], launch: Launch) -> None:
    with pytest.raises(Fatal, match="had to exit"):
        ranks[0].leave(lambda: False)
    launch.barrier.abort()
