"""Publish the progress of a run in its checkpoint, so that it can be followed from elsewhere."""

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

PUBLISH_SECONDS, PUBLISH_LATER_SECONDS = 2.0, 10.0  # between two writes, early and late in a run; a write is one request
END_SECONDS = 5.0  # the longest that the end of a run waits for a slow store
LIVE_CAUSE_CHARACTERS = 600  # characters of a cause
log = logging.getLogger("kitestring.run")


class LiveProgress:
    """Listener that writes the newest snapshot from a thread of its own, so that a slow store does not delay the run."""

    def __init__(self, store: Store, corpus: str, run: str, began: dt.datetime) -> None:
        self._runs, self._run, self._began = LiveRuns(store, corpus), run, began
        self._flow = flow_name()
        self._newest: Snapshot | None = None
        self._error: BaseException | None = None
        self._over, self._published, self._failure_logged = threading.Event(), False, False
        self._thread = threading.Thread(target=self._write_until_over, daemon=True, name="live-progress")
        self._thread.start()

    def __call__(self, now: Snapshot) -> None:
        self._newest = now

    def end(self, now: Snapshot, error: BaseException | None) -> None:
        """Write how the run ended; if the job was refused, remove its document."""
        self._newest, self._error = now, error
        self._over.set()
        self._thread.join(END_SECONDS)

    def _write_until_over(self) -> None:
        while not self._over.wait(self._pause):
            self._publish("running")
        if not isinstance(self._error, BadInput):
            self._publish(_state_of(self._error))
            self._log_failure_of(lambda: self._runs.sweep(dt.datetime.now(dt.UTC), but=self._run))
        elif self._published:
            self._log_failure_of(lambda: self._runs.forget(self._run))

    @property
    def _pause(self) -> float:
        return min(PUBLISH_LATER_SECONDS, max(PUBLISH_SECONDS, self._newest.seconds / 100 if self._newest else 0.0))

    def _publish(self, state: LiveState) -> None:
        if self._newest is None:
            return
        cause = without_credentials(str(self._error))[:LIVE_CAUSE_CHARACTERS] if state == "failed" else ""
        names = {"run": self._run, "flow": self._flow, "machine": socket.gethostname(), "began": self._began}
        document = LiveRun(**names, at=dt.datetime.now(dt.UTC), state=state, cause=cause, snapshot=for_others(self._newest))
        self._published = True
        self._log_failure_of(lambda: self._runs.publish(document))

    def _log_failure_of(self, write: Callable[[], None]) -> None:
        """Call `write`. Warns once if the store does not answer: operations of the run that need the store fail on their own."""
        try:
            write()
        except (KitestringError, OSError) as error:
            level, self._failure_logged = logging.DEBUG if self._failure_logged else logging.WARNING, True
            log.log(level, "the progress of the run could not be written to the checkpoint; it is tried again: %s", error)


def flow_name() -> str:
    """The name of the current flow; "run" outside a flow run."""
    context = FlowRunContext.get()
    return context.flow.name if context and context.flow else "run"


def _state_of(error: BaseException | None) -> LiveState:
    return "completed" if error is None else "failed" if isinstance(error, Exception) else "stopped"


@contextmanager
def publishing_progress(store: Store, corpus: str, run: str, began: dt.datetime, journal: Journal) -> Iterator[None]:
    """Publish a run's progress in the checkpoint while the body runs, and how it ended."""
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
