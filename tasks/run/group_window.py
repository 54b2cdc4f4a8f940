"""A bounded window over Prefect tasks: as many groups in progress as can be worked on, however many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import TaskRunNameCallbackWithParameters

from tasks.domain.errors import Permanent
from tasks.domain.shards.shard import Shard

GroupOfShards = list[Shard]
Submit = Callable[[GroupOfShards], PrefectFuture[Any]]
MOST_LOADS = 16  # groups that are loaded at a time: each holds a part in memory, and one throttle slows all if the server is slower
MOST_WAITING = 20_000  # encoded shards that wait to be loaded: about two kilobytes each
Finish = Callable[[GroupOfShards, Exception | None], None]


def threads(most: int) -> TaskRunner[PrefectFuture[Any]]:
    """Prefect's thread pool, cast to the type that a flow takes."""
    return cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner[Any](max_workers=most))


def name_runs(stage: str) -> TaskRunNameCallbackWithParameters:
    """Name the task runs of a stage after the first shard of their group and the number of the others."""

    def name(parameters: dict[str, Any]) -> str:
        group: GroupOfShards = parameters["group"]
        return f"{stage} {group[0].name}" + (f" and {len(group) - 1:,} more" if len(group) > 1 else "")

    return cast("TaskRunNameCallbackWithParameters", name)


class Window:
    """Each group goes through the steps in order; earlier groups load while later ones are encoded.

    Results of tasks are not used: a task commits its work to the store, and the next step reads it there. So a group whose first
    step failed is passed on as well: the shards that it did commit count.

    A slower later step does not block the first: waiting groups are lists of shards, which cost less than idle hosts. Only while
    `MOST_WAITING` shards wait is no further group taken.

    Args:
        steps: each submits a task for a group.
        width: the most groups in the first step at a time, or a function of it called before each; also a limit for later steps.
        loads: the most groups in a later step at a time.
        finish: called for every finished group, with the first error of its steps.
        first_over: called once when the first step is over for all groups, while later steps may still run.
    """

    def __init__(
        self,
        *steps: Submit,
        width: int | Callable[[], int],
        loads: int = MOST_LOADS,
        finish: Finish = lambda *_: None,
        first_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._width = width if callable(width) else lambda: width
        self._loads = loads
        self._steps, self._finish, self._first_over = steps, finish, first_over
        self._busy: list[dict[PrefectFuture[Any], _Passing]] = [{} for _ in steps]
        self._waiting: list[deque[_Passing]] = [deque() for _ in steps]  # groups waiting for each step

    def run(self, groups: Iterable[GroupOfShards]) -> None:
        """Process every group and wait until all are finished."""
        for group in groups:
            self.push(group)
        self.drain()

    def push(self, group: GroupOfShards) -> None:
        """Start one more group, after waiting until the window has room."""
        while len(self._busy[0]) >= self._width() or self._shards_waiting() >= MOST_WAITING:
            self._wait_for_one()
        self._start(0, _Passing(group))

    def take_over(self, earlier: Window, done: Iterable[tuple[GroupOfShards, Exception | None]]) -> None:
        """Continue the groups of an earlier window with only the first step: those in progress, and those done."""
        self._busy[0] |= earlier._busy[0]
        for group, error in done:
            self._pass_on(0, _Passing(group, error))

    def drain(self) -> None:
        """Wait for all groups in progress."""
        while self._busy[0]:
            self._wait_for_one()
        self._first_over()
        while any(self._busy):
            self._wait_for_one()

    def _start(self, step: int, passing: _Passing) -> None:
        self._busy[step][self._steps[step](passing.group)] = passing

    def _wait_for_one(self) -> None:
        done = next(iter(as_completed([future for busy in self._busy for future in busy])))
        step = next(number for number, busy in enumerate(self._busy) if done in busy)
        passing = self._busy[step].pop(done)
        passing.error = passing.error or _error_of(done)
        self._pass_on(step, passing)

    def _pass_on(self, step: int, passing: _Passing) -> None:
        if step + 1 == len(self._steps):
            self._finish(passing.group, passing.error)
        else:
            self._waiting[step + 1].append(passing)
        for later in range(1, len(self._steps)):
            while self._waiting[later] and len(self._busy[later]) < min(self._loads, self._width()):
                self._start(later, self._waiting[later].popleft())

    def _shards_waiting(self) -> int:
        return sum(len(passing.group) for waiting in self._waiting for passing in waiting)


@dataclass(slots=True)
class _Passing:
    group: GroupOfShards
    error: Exception | None = None


def _error_of(done: PrefectFuture[Any]) -> Exception | None:
    """The error of a finished task. The result is read first, since until then `state` is only what the server has received."""
    result = done.result(raise_on_failure=False)
    if isinstance(result, Exception):
        return result
    return None if done.state.is_completed() else Permanent(f"its task ended as {done.state.name}: {done.state.message}")
