"""Steps that all ranks take together, though each has work of its own at times of its own.

Ranks that share a model's weights can compute only when all of them do: each gives the others its part of every layer. So each rank
has a thread that owns the model. Before a step the threads tell each other whether they have a batch; where any has, all compute,
those without one on a dummy row. Batches, pieces and their order stay what they are for a rank that is alone.
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
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # seconds between two questions while no rank has a batch
SHARE_OF_A_STEP = 0.25  # for which a rank that has just computed waits for its next batch: two that took turns would take twice as long
LEAST_WAIT, LONGEST_WAIT = 0.01, 0.1  # seconds, likewise
SECONDS_TO_BE_ENDED = 2.0  # before a failed group ends a rank: the rank that has died is to be heard of first, and ends the launch


class Steps(Protocol):
    """What is done in a step. Every rank does one of both."""

    def compute(self, inputs: dict[str, Any]) -> Any:
        """A batch's outputs; an exception is the batch's own fault, and leaves the ranks in step.

        Raises:
            Fatal: they are not.
        """

    def join(self) -> None:
        """Lend the others this rank's weights."""


@dataclass(slots=True)
class _Turn:
    inputs: dict[str, Any]
    outputs: Future[Any] = field(default_factory=Future)


class Lockstep:
    """A thread that takes every step with the other ranks.

    Args:
        steps: what is done in one.
        exchange: gives each rank's number to all, and waits for all; fails where a rank has ended.
    """

    def __init__(self, steps: Steps, exchange: Callable[[int], list[int]]) -> None:
        self._steps, self._exchange = steps, exchange
        self._changed = threading.Condition()
        self._turn: _Turn | None = None
        self._failed: tuple[_Turn, Exception] | None = None  # told only when it is known that the group did not fail
        self._leaving = False
        self._broken = ""  # why there are no more steps
        self._patience = SHORTEST_PAUSE
        self._thread = threading.Thread(target=self._run, daemon=True, name="lockstep")

    def start(self) -> None:
        """Take steps from now on."""
        self._thread.start()

    def compute(self, inputs: dict[str, Any]) -> Any:
        """A batch's outputs, in the next step. One thread at a time may ask.

        Raises:
            Fatal: another rank has ended.
            Exception: what the model raised.
        """
        turn = _Turn(inputs)
        with self._changed:
            if self._broken:
                raise Fatal(self._broken)
            self._turn = turn
            self._changed.notify_all()
        return turn.outputs.result()

    def leave(self, allowed: Callable[[], bool]) -> None:
        """Have no more batches: go on lending weights until no rank has any.

        Args:
            allowed: whether this rank may still wait for the others.

        Raises:
            Fatal: another rank has ended, or this one has to.
        """
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        while self._thread.is_alive() and allowed():
            self._thread.join(LONGEST_PAUSE)
        if self._thread.is_alive() or self._broken:
            raise Fatal(self._broken or "this rank had to end while others computed with its weights")

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:  # noqa: BLE001 - the main thread would wait without end
            self._break(f"a rank that shares the model's weights has ended: {first_line(error)}")

    def _step(self) -> bool:
        states = self._exchange(self._state())
        self._tell_failure()
        if WITH_BATCH in states:
            self._take()
        return any(state != LEAVING for state in states)

    def _state(self) -> int:
        """What this rank tells the others; its batch is waited for a while."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn or self._leaving, timeout=self._patience)
            self._patience = min(2 * self._patience, LONGEST_PAUSE)
            return WITH_BATCH if self._turn else LEAVING if self._leaving else IDLE

    def _take(self) -> None:
        """A step. A batch that came after this rank had told the others that it has none is as welcome."""
        turn, began = self._turn, time.monotonic()
        self._patience = SHORTEST_PAUSE
        if turn is None:
            self._steps.join()
            return
        try:
            outputs = self._steps.compute(turn.inputs)
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - the batch's, and recorded as the reason of its row
            self._turn, self._failed = None, (turn, error)
            return
        self._turn, self._patience = None, min(LONGEST_WAIT, max(LEAST_WAIT, SHARE_OF_A_STEP * (time.monotonic() - began)))
        turn.outputs.set_result(outputs)

    def _tell_failure(self) -> None:
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
