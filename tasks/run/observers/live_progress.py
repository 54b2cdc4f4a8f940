"""A run tells in its checkpoint how far it is, so that it can be followed from elsewhere."""

from __future__ import annotations

import datetime as dt
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext

from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.credentials import without_credentials
from tasks.domain.ports import Store
from tasks.domain.progress.live_run import LiveRun, LiveState, for_others
from tasks.domain.progress.snapshot import Snapshot
from tasks.run.progress import Journal

TELL_SECONDS, TELL_LATER_SECONDS = 2.0, 10.0  # between two writings: a request each
END_SECONDS = 5.0  # that the end of a run waits for a slow store
TOLD_CHARACTERS = 600  # characters of a cause
log = logging.getLogger("kitestring.run")


class LiveProgress:
    """Listens to a run, and writes what is newest in a thread of its own: a slow store holds nobody up."""

    def __init__(self, store: Store, corpus: str, run: str, began: dt.datetime) -> None:
        self._runs, self._run, self._began = LiveRuns(store, corpus), run, began
        self._flow = flow_name()
        self._newest: Snapshot | None = None
        self._error: BaseException | None = None
        self._over, self._told, self._unheard = threading.Event(), False, False
        self._thread = threading.Thread(target=self._write_on, daemon=True, name="live-progress")
        self._thread.start()

    def __call__(self, now: Snapshot) -> None:
        self._newest = now

    def end(self, now: Snapshot, error: BaseException | None) -> None:
        """Write how it ended; of a job that was refused nothing is left."""
        self._newest, self._error = now, error
        self._over.set()
        self._thread.join(END_SECONDS)

    def _write_on(self) -> None:
        while not self._over.wait(self._pause):
            self._tell("running")
        if not isinstance(self._error, BadInput):
            self._tell(_state_of(self._error))
            self._carefully(lambda: self._runs.sweep(dt.datetime.now(dt.UTC), but=self._run))
        elif self._told:
            self._carefully(lambda: self._runs.forget(self._run))

    @property
    def _pause(self) -> float:
        return min(TELL_LATER_SECONDS, max(TELL_SECONDS, self._newest.seconds / 100 if self._newest else 0.0))

    def _tell(self, state: LiveState) -> None:
        if self._newest is None:
            return
        cause = without_credentials(str(self._error))[:TOLD_CHARACTERS] if state == "failed" else ""
        names = {"run": self._run, "flow": self._flow, "machine": socket.gethostname(), "began": self._began}
        told = LiveRun(**names, at=dt.datetime.now(dt.UTC), state=state, cause=cause, snapshot=for_others(self._newest))
        self._told = True
        self._carefully(lambda: self._runs.publish(told))

    def _carefully(self, tell: Callable[[], None]) -> None:
        """A store that does not answer is told once: what a run depends on there fails by itself."""
        try:
            tell()
        except (KitestringError, OSError) as error:
            level, self._unheard = logging.DEBUG if self._unheard else logging.WARNING, True
            log.log(level, "how far the run is cannot be told in the checkpoint, and is tried again: %s", error)


def flow_name() -> str:
    """Of the flow that runs here; "run" outside of one."""
    context = FlowRunContext.get()
    return context.flow.name if context and context.flow else "run"


def _state_of(error: BaseException | None) -> LiveState:
    return "completed" if error is None else "failed" if isinstance(error, Exception) else "stopped"


@contextmanager
def told_in_checkpoint(store: Store, corpus: str, run: str, began: dt.datetime, journal: Journal) -> Iterator[None]:
    """Tell in the checkpoint how far a run is, and in the end how it ended."""
    live = LiveProgress(store, corpus, run, began)
    journal.listeners.append(live)
    error: BaseException | None = None
    try:
        yield
    except BaseException as failure:
        error = failure
        raise
    finally:
        live.end(journal.snapshot(ended=True), error)
