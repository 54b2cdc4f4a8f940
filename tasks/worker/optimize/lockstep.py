"""Runs the steps of ranks that share a model in lockstep, although each rank has its own work at its own times.

Ranks that share a model's weights can only compute together, since each serves its shard of every layer to the others. So each rank
has a thread that owns the model. Before a step the threads exchange whether they have a batch; if any rank has one, all ranks
compute, those without one on a dummy row. Batches, pieces and their order are the same as for a rank with a whole model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.worker.encoding_errors import Fatal, first_line

IDLE, WITH_BATCH, LEAVING = 0, 1, 2
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # seconds between exchanges while no rank has a batch
SHARE_OF_A_STEP = 0.25  # how long a rank waits for its next batch after a step: ranks that alternate would take twice as long
LEAST_WAIT, LONGEST_WAIT = 0.01, 0.1  # bounds of this wait, in seconds
SECONDS_TO_BE_ENDED = (
    2.0  # delay before a failed group ends a rank: the death of the failed rank must be reported first, and ends the launch
)


class Steps(Protocol):
    """The two kinds of a step. In each step every rank runs one of them."""

    def compute(self, inputs: dict[str, Any]) -> Any:
        """Return a batch's outputs. Any exception but Fatal is attributed to the batch and leaves the ranks in step.

        Raises:
            Fatal: the ranks are out of step.
        """

    def join(self) -> None:
        """Serve this rank's weights to the others."""


@dataclass(slots=True)
class _Turn:
    inputs: dict[str, Any]
    outputs: Future[Any] = field(default_factory=Future)


class Lockstep:
    """A thread that runs every step together with the other ranks.

    Args:
        steps: the work of a step.
        exchange: sends each rank's number to all and waits for all; raises if a rank has exited.
    """

    def __init__(self, steps: Steps, exchange: Callable[[int], list[int]]) -> None:
        self._steps, self._exchange = steps, exchange
        self._changed = threading.Condition()
        self._turn: _Turn | None = None
        self._failed: tuple[_Turn, Exception] | None = None  # reported after the next exchange, which shows that the group did not fail
        self._leaving = False
        self._broken = ""  # the reason why there are no more steps
        self._patience = SHORTEST_PAUSE
        self._thread = threading.Thread(target=self._run, daemon=True, name="lockstep")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def compute(self, inputs: dict[str, Any]) -> Any:
        """Compute a batch in the next step and return its outputs. One thread at a time may call this.

        Raises:
            Fatal: another rank has exited.
            Exception: the model's own error.
        """
        turn = _Turn(inputs)
        with self._changed:
            if self._broken:
                raise Fatal(self._broken)
            self._turn = turn
            self._changed.notify_all()
        return turn.outputs.result()

    def leave(self, allowed: Callable[[], bool]) -> None:
        """Submit no more batches; serve weights to the other ranks until none has a batch.

        Args:
            allowed: returns whether this rank may still wait for the others.

        Raises:
            Fatal: another rank has exited, or this one must exit.
        """
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        while self._thread.is_alive() and allowed():
            self._thread.join(LONGEST_PAUSE)
        if self._thread.is_alive() or self._broken:
            raise Fatal(self._broken or "this rank had to exit while others computed with its weights")

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:  # noqa: BLE001 - the main thread would wait forever
            self._break(f"a rank that shares the model's weights has exited: {first_line(error)}")

    def _step(self) -> bool:
        states = self._exchange(self._state())
        self._report_failure()
        if WITH_BATCH in states:
            self._run_step()
        return any(state != LEAVING for state in states)

    def _state(self) -> int:
        """Return this rank's state, after waiting a while for a batch."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn or self._leaving, timeout=self._patience)
            self._patience = min(2 * self._patience, LONGEST_PAUSE)
            return WITH_BATCH if self._turn else LEAVING if self._leaving else IDLE

    def _run_step(self) -> None:
        """Run a step. Also computes a batch that arrived after this rank reported that it has none."""
        turn, began = self._turn, time.monotonic()
        self._patience = SHORTEST_PAUSE
        if turn is None:
            self._steps.join()
            return
        try:
            outputs = self._steps.compute(turn.inputs)
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - attributed to the batch, and recorded as its row's reason
            self._turn, self._failed = None, (turn, error)
            return
        self._turn, self._patience = None, min(LONGEST_WAIT, max(LEAST_WAIT, SHARE_OF_A_STEP * (time.monotonic() - began)))
        turn.outputs.set_result(outputs)

    def _report_failure(self) -> None:
        if self._failed is not None:
            turn, error = self._failed
            self._failed, self._patience = None, LEAST_WAIT
            turn.outputs.set_exception(error)

    def _break(self, reason: str) -> None:
        time.sleep(SECONDS_TO_BE_ENDED)
        with self._changed:
            self._broken = reason
            waiting = [self._turn, self._failed[0] if self._failed else None]
            self._turn = self._failed = None
        for turn in waiting:
            if turn is not None:
                turn.outputs.set_exception(Fatal(reason))
