"""A bounded window over Prefect tasks: as many groups in flight as can be worked on, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

Submit = Callable[[Any], PrefectFuture[Any]]


def threads(most: int) -> TaskRunner[PrefectFuture[Any]]:
    """Prefect's thread pool; its own type does not say that it is what a flow takes."""
    return cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner[Any](max_workers=most))


class Window:
    """Each group goes through the steps in order; earlier groups load while later ones are encoded.

    Nothing is taken from a task's result: a task commits what it did to the store, and the next one reads it
    there. So a group whose first step failed is handed on as well: what it did commit counts.
    """

    def __init__(self, *steps: Submit, width: int) -> None:
        self._steps, self._width = steps, width
        self._busy: list[dict[PrefectFuture[Any], Any]] = [{} for _ in steps]

    def push(self, group: Any) -> None:
        """Take one more group, waiting until every step has room."""
        while any(len(busy) >= self._width for busy in self._busy):
            self._wait_for_one()
        self._start(0, group)

    def drain(self) -> None:
        """Wait for all that is in flight."""
        while any(self._busy):
            self._wait_for_one()

    def _start(self, step: int, group: Any) -> None:
        self._busy[step][self._steps[step](group)] = group

    def _wait_for_one(self) -> None:
        done = next(iter(as_completed([future for busy in self._busy for future in busy])))
        step = next(number for number, busy in enumerate(self._busy) if done in busy)
        group = self._busy[step].pop(done)
        if step + 1 < len(self._steps):
            self._start(step + 1, group)
