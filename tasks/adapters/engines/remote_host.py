"""The process on each machine of a cluster: a `Host` with a JSON interface for remote calls.

A cluster engine starts one on each host (a Ray actor, a process beside a Dask worker) and calls its methods, each of which returns a
`HostAnswer`. It is independent of the engine. Credentials come from its own environment, never in a call.

- Events are numbered, kept until the caller acknowledges them, and resent with every answer: a lost answer loses no event.
- No call for `SILENCE_SECONDS`: it stops its ranks and closes (network partition, or the flow has died).
- SIGTERM (the machine is preempted): it finishes the pieces in progress and returns the rest.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

import tasks
from tasks.adapters.engines.host import Host, TakenBack
from tasks.adapters.models.file_digests import sha256_of_file
from tasks.adapters.processes.freed_memory import return_freed_memory
from tasks.adapters.processes.hardware import version_of
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.digest import digest
from tasks.domain.encoding.encoding_events import EncodingEvent
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import EncodingSpec, LoadGroup, ShardGroup
from tasks.domain.encoding.host_messages import HostAnswer, HostIdentity, HostReport, LogLine, refusal_of
from tasks.domain.errors import KitestringError, Permanent, Transient
from tasks.domain.target.rate_limit import LoadCounts

SILENCE_SECONDS = 30.0  # without a call, after which a host closes itself
LEAVING_SECONDS = 20.0  # for a preempted host to finish the pieces in progress; providers allow about 30
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers", "open-clip-torch")  # vectors depend on their versions
MOST_LINES = 200  # log lines that are buffered until the next call
LOGGED = "kitestring"
log = logging.getLogger("kitestring.host")


@cache
def own_identity() -> HostIdentity:
    """Returns the identity of this machine."""
    return HostIdentity(
        host=socket.gethostname(),
        version=version_of("kitestring"),
        code=_code_digest(Path(tasks.__file__).parent),
        libraries={name: version_of(name) for name in LIBRARIES},
    )


def _code_digest(package: Path) -> str:
    return digest({path.relative_to(package).as_posix(): sha256_of_file(path) for path in sorted(package.rglob("*.py"))})


class RemoteHost:
    """A host of a cluster, for one run. All methods are thread-safe; `report` may be called while other calls are in progress.

    Args:
        silence_seconds: time without a call after which the host closes itself.
        alone: whether the process exists for this host only. If so, its log lines go to the caller, and the process exits after `leave`.
    """

    def __init__(self, *, silence_seconds: float = SILENCE_SECONDS, alone: bool = True) -> None:
        self._silence_seconds, self._alone = silence_seconds, alone
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._host: Host | None = None
        self._events: list[EncodingEvent] = []
        self._groups = 0  # in progress
        self._first = 0  # number of the oldest unacknowledged event
        self._lines = _Lines()
        if alone:
            logging.getLogger(LOGGED).addHandler(self._lines)
        self._called = time.monotonic()
        self._leaving = self._closed = False
        threading.Thread(target=self._watch, daemon=True, name="host-silence").start()

    def leave_on_sigterm(self) -> None:
        """Install the handler of SIGTERM. Call from the main thread of a process that exists for this host only."""
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self.leave, daemon=True, name="host-leaves").start())

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def leaving(self) -> bool:
        return self._leaving

    # Calls

    def identify(self) -> str:
        """Return the `HostIdentity`."""
        return self._answer(lambda: own_identity().model_dump(mode="json"))

    def load(self, spec: str, seen: int = 0) -> str:
        """Open the workplace of the run and load the encoder; blocks, then returns its `EncoderFacts` and the number of ranks."""
        return self._answer(lambda: self._load(EncodingSpec.model_validate_json(spec)), seen)

    def encode(self, group: str, seen: int, ahead: int | None = None, requests: int | None = None) -> str:
        """See `Engine.encode`. `ahead`: source rows this host has been given, with this group, or may expect; None: unknown.
        `requests`: see `report`.
        """
        with self._at_work():
            self._share_requests(requests)
            if ahead is not None:
                self._expect(ahead)
            return self._answer(lambda: self._opened.encode(ShardGroup.model_validate_json(group)), seen)

    def load_shards(self, group: str, seen: int, rate: float | None, heard: int) -> str:
        """See `Engine.load`. `rate`: rows per second this host may send; None: unlimited. `heard`: its refusals that the caller has seen."""
        with self._at_work():
            self._share(rate, heard)
            return self._answer(lambda: self._opened.load(LoadGroup.model_validate_json(group)), seen)

    def measure(self, rows: bytes) -> str:
        """See `Engine.measure`; takes the rows as an Arrow stream, returns an `Observation`."""
        return self._answer(lambda: self._opened.measure(pa.ipc.open_stream(rows).read_all()).model_dump(mode="json"))

    def release(self, wait: bool, seen: int) -> str:
        """See `Engine.release`."""
        return self._answer(lambda: self._opened.release(wait=wait), seen)

    def report(self, seen: int, rate: float | None = None, heard: int = 0, requests: int | None = None) -> str:
        """Return progress and events; called every second. `seen`: the caller has all events below this number.
        `rate`, `heard`: see `load_shards`. `requests`: most requests in flight from this host to the model server; None: there is no server.
        """
        self._share_requests(requests)
        self._share(rate, heard)
        return self._answer(lambda: None, seen)

    def recall(self, attempt: str, shard: str, seen: int) -> str:
        """Return the part of a group (by attempt and first shard) that is not begun; the answer of its `encode` says so."""
        return self._answer(lambda: self._opened.recall(attempt, shard), seen)

    def close(self) -> str:
        """End every process of the run on this machine. Idempotent."""
        return self._answer(self._close)

    # Leaving

    def leave(self) -> None:
        """Finish the pieces in progress, return the rest and close, because the machine is preempted."""
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        log.warning("this host is preempted: it finishes the pieces in progress and returns the rest")
        host = self._host
        if host is not None:
            host.give_back()
        ends = time.monotonic() + LEAVING_SECONDS
        while time.monotonic() < ends and not self._closed and self._groups:
            time.sleep(0.1)
        until = time.monotonic() + 5  # the caller needs a report to learn of it, and then closes this host
        while time.monotonic() < until and not self._closed:
            time.sleep(0.1)
        self._close()
        if self._alone:
            os._exit(0)

    # Inside

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            self._groups += 1
        try:
            yield
        finally:
            with self._lock:
                self._groups -= 1

    def _share(self, rate: float | None, heard: int) -> None:
        if rate is not None and self._host is not None:
            self._host.share_rate(rate, heard=heard)

    def _share_requests(self, requests: int | None) -> None:
        if requests is not None and self._host is not None:
            self._host.share_requests(requests)

    def _expect(self, rows: int) -> None:
        with suppress(Transient):  # a closed host raises it again from `encode`
            self._opened.expect(rows)

    @property
    def _opened(self) -> Host:
        with self._lock:
            if self._closed or self._host is None:
                raise Transient("the host is closed" if self._closed else "the host has not been opened")
            return self._host

    def _load(self, spec: EncodingSpec) -> JsonValue:
        with self._lock:
            if self._closed:
                raise Transient("the host is closed")
            if self._host is None:
                return_freed_memory()
                scratch = self._stack.enter_context(scratch_folder())
                self._host = Host(spec, scratch=scratch, tell=self._tell)
            host = self._host
        facts = host.facts()
        return {"facts": facts.model_dump(mode="json"), "ranks": host.width - 1}

    def _tell(self, event: EncodingEvent) -> None:
        with self._lock:
            self._events.append(event)

    def _answer(self, call: Callable[[], JsonValue], seen: int = 0) -> str:
        self._called = time.monotonic()
        answer = HostAnswer()
        try:
            answer = HostAnswer(value=call())
        except KitestringError as error:
            given_back = isinstance(error, TakenBack) or (self._leaving and isinstance(error, Transient))
            answer = HostAnswer(refusal=refusal_of(error), given_back=given_back)
        except Exception as error:
            log.exception("a call failed with an unexpected error")
            answer = HostAnswer(refusal=refusal_of(Permanent(f"{type(error).__name__}: {error}; please report this")))
        self._called = time.monotonic()
        return answer.model_copy(update={"report": self._report(seen)}).model_dump_json()

    def _report(self, seen: int) -> HostReport:
        with self._lock:
            acknowledged = max(0, min(seen - self._first, len(self._events)))
            del self._events[:acknowledged]
            self._first += acknowledged
            first, events, host = self._first, tuple(self._events), self._host
        progress = host.progress() if host else EncodingProgress()  # read after the events, so that it includes their rows
        loading = host.loading if host else LoadCounts()
        lines = self._lines.drain()
        return HostReport(
            first=first, events=events, lines=lines, progress=progress, loading=loading, leaving=self._leaving, closed=self._closed
        )

    def _close(self) -> None:
        with self._lock:
            self._closed, host = True, self._host
        if host is not None:
            host.close()
        with self._lock:
            logging.getLogger(LOGGED).removeHandler(self._lines)
            self._stack.close()

    def _watch(self) -> None:
        while not self._closed:
            time.sleep(min(1.0, self._silence_seconds / 4))
            if time.monotonic() - self._called > self._silence_seconds:
                log.warning("no call to this host for %.0f s: closing", self._silence_seconds)
                try:
                    self._close()
                except Exception:  # `closed` is already set, so the owner of the process ends it
                    log.exception("the host could not be closed")


class _Lines(logging.Handler):
    """Buffers log lines until they are fetched; drops the oldest beyond `MOST_LINES`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._buffer: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self._buffer.append(LogLine(level=record.levelno, text=self.format(record)))
            del self._buffer[:-MOST_LINES]

    def drain(self) -> tuple[LogLine, ...]:
        """Return and clear the buffer."""
        lines, self._buffer = self._buffer, []
        return tuple(lines)
