"""The journal of a run: what happens during it, for the progress line, the artifacts and the report."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from pydantic import JsonValue

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.progress.snapshot import Counted, Snapshot
from tasks.domain.report.run_report import Progress
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.shards.shard import Shard, Span
from tasks.domain.target.retrieval_quality import Evaluation

TICK_SECONDS = 1.0
MOST_SAMPLES = 600  # kept at a time; a chart shows fewer
log = logging.getLogger("kitestring.run")


Listener = Callable[[Snapshot], None]
Emitter = Callable[[str, Mapping[str, JsonValue]], None]
LISTENERS: list[Listener] = []  # of every run in this process, such as the terminal's progress display
HOSTS_SAMPLED = 7  # hosts with a colour of their own in a chart; all others share one more
SHARDS_NAMED = 10  # shards of each kind that a snapshot names


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of a shard, of which no event was emitted yet."""

    names: dict[str, JsonValue]
    counts: dict[str, int]


@dataclass(slots=True)
class Journal:
    """Counts of a run. Thread-safe: the run's threads write, one ticking thread reads."""

    started: float = field(default_factory=time.monotonic)
    stage: str = "start"
    stages: dict[str, float] = field(default_factory=dict)
    total: int | None = None
    listed: int | None = None  # rows listed so far; None: the plan is complete
    expected: int | None = None  # an estimate of `total` while that is not known
    reused: int = 0
    loaded: int = 0
    texts_cut: int = 0
    without_vectors: dict[str, int] = field(default_factory=dict)  # shard: its rows that were sent without their vector
    replaced: set[str] = field(default_factory=set)  # shards loaded by hosts of which an earlier seal may have left rows
    shards: int = 0
    before: int = 0  # shards that were complete when the run began
    slowest: list[tuple[float, str, int]] = field(default_factory=list)
    sealed: dict[str, int] = field(default_factory=dict)  # shard sealed by this run: its rows encoded by this run
    counted: Counted | None = None  # the progress of a stage that counts something other than encoded rows
    cached: dict[str, int] = field(default_factory=dict)  # shard sealed by this run: its rows with vectors from the cache
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # shard: its name, the error
    failed_rows: dict[str, int | None] = field(default_factory=dict)  # shard: the row that the error is about
    bad_input: set[str] = field(default_factory=set)  # shards that failed because of their content
    damaged: dict[str, tuple[str, str]] = field(default_factory=dict)  # shard with a withdrawn seal: its name, the damage
    adopted: int = 0
    quarantined: int = 0  # rows of the shards that this run sealed
    duplicates: int = 0
    repairs: int = 0  # documents that could not be read
    notes: list[str] = field(default_factory=list)  # decisions of the run
    removed: dict[str, int] = field(default_factory=dict)  # reason: rows removed from the collection
    gate: Evaluation | None = None  # of the new collection
    refusals: list[str] = field(default_factory=list)  # what the run refused to do, and how to allow it
    samples: list[Progress] = field(default_factory=list)  # at intervals that grow with the run
    encoding: Callable[[], EncodingProgress] = EncodingProgress  # the engine's progress
    lock: threading.RLock = field(default_factory=threading.RLock)
    listeners: list[Listener] = field(default_factory=list)  # of this run only
    emit: Emitter = lambda _what, _payload: None  # emits an event for automations
    span: Callable[[str], AbstractContextManager[object]] = nullcontext  # traces a stage
    waits_for: Callable[[], str] = str  # what the run is waiting for; "": nothing
    _shown: EncodingProgress = field(default_factory=EncodingProgress)  # of the last snapshot
    _sample_seconds: float = 0.9 * TICK_SECONDS  # the least time between two samples
    _loaded_shards: set[str] = field(default_factory=set)
    _working: dict[str, int] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    _listener_failed: bool = False  # the failure was logged
    _over: threading.Event = field(default_factory=threading.Event)
    _outcomes: dict[str, dict[str, _Outcome]] = field(default_factory=lambda: {"shard.sealed": {}, "shard.loaded": {}})

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Add the time of the body to a stage; times of threads that overlap count once."""
        with self.lock:
            self.stage = stage
            self._working[stage] = self._working.get(stage, 0) + 1
            if self._working[stage] == 1:
                self._since[stage] = time.monotonic()
        try:
            with self.span(stage):
                yield
        finally:
            with self.lock:
                self._working[stage] -= 1
                if not self._working[stage]:
                    self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - self._since[stage]

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of something other than encoded rows. Gives a thread-safe function that adds to the count."""
        begun = time.monotonic()

        def add(done: int) -> None:
            with self.lock:
                before = self.counted.done if self.counted else 0
                self.counted = Counted(what=what, done=before + done, total=total, seconds=time.monotonic() - begun)

        add(0)
        try:
            yield add
        finally:
            with self.lock:
                self.counted = None

    def note_listed(self, span: Span) -> None:
        """Count a listed span of the source; called by the plan's thread only. Raises Transient if the run is ending."""
        if self._over.is_set():
            raise Transient("the run is ending: listing of the source was stopped")
        self.listed = (self.listed or 0) + (span.rows or 0)

    def note_planned(self, shards: int) -> None:
        """Record that the plan is complete."""
        with self.lock:
            self.shards, self.listed = shards, None

    def expect(self, shards: int, rows: int | None) -> None:
        """Set the work of this run; the other shards of the plan were complete when it began."""
        with self.lock:
            self.before, self.total = self.shards - shards, rows

    def note_estimate(self, rows: float) -> None:
        """Set the estimated number of rows that this run has to process."""
        with self.lock:
            self.expected = round(rows)

    def note_seal(self, seal: Seal, *, by_this_run: int, adopted: int, cached: int = 0) -> None:
        """Record a sealed shard; `by_this_run` of its rows were encoded by this run, the rest by earlier ones."""
        with self.lock:
            self.sealed[seal.shard], self.cached[seal.shard] = by_this_run, cached
            self.failed.pop(seal.shard, None)
            self.reused += seal.embedded - by_this_run
            self.adopted += adopted
            self.quarantined += len(seal.quarantined)
            self.duplicates += seal.duplicates
            heapq.heappush(self.slowest, (seal.stats.encode_seconds, seal.name, seal.embedded))
            if len(self.slowest) > SHARDS_NAMED:
                heapq.heappop(self.slowest)
            counts = {"rows": seal.embedded, "quarantined": len(seal.quarantined)}
            self._outcomes["shard.sealed"][seal.shard] = _Outcome({"shard": seal.shard, "name": seal.name}, counts)

    def note_reuse(self, seal: Seal) -> None:
        """Record a shard that an earlier run sealed."""
        with self.lock:
            self.reused += seal.embedded

    def note_amendment(self, shard: str, recovered: int) -> None:
        """Record rows of a sealed shard that were recovered from quarantine."""
        with self.lock:
            self.sealed[shard] = recovered

    def note_failure(self, shard: Shard, error: Exception) -> None:
        """Record a shard that failed permanently."""
        self.note_failed(shard.id, shard.name, error)

    def note_failed(self, shard: str, name: str, error: Exception) -> None:
        """Record a permanent failure by the shard's id and its display name."""
        with self.lock:
            self.failed[shard] = (name, str(error))
            self.failed_rows[shard] = error.row if isinstance(error, KitestringError) else None
            (self.bad_input.add if isinstance(error, BadInput) else self.bad_input.discard)(shard)

    def note_damage(self, seal: Seal, damage: Exception) -> None:
        """Record a damaged part of a sealed shard whose seal was withdrawn."""
        with self.lock:
            self.damaged[seal.shard] = (seal.name, str(damage))
            self._loaded_shards.discard(seal.shard)

    def reopen(self, shard: str) -> None:
        """Process a shard again, because it differs from what this run loaded."""
        with self.lock:
            self._loaded_shards.discard(shard)

    def note_repair(self, line: str) -> None:
        """Record an unreadable document of the checkpoint, which is created again; only the first ones become notes."""
        with self.lock:
            self.repairs += 1
            if self.repairs <= SHARDS_NAMED:
                self.notes.append(line)
            elif self.repairs == SHARDS_NAMED + 1:
                self.notes.append("more documents of the checkpoint could not be read; see the log")

    def note(self, line: str) -> None:
        """Add a note to the run's summary and report."""
        with self.lock:
            self.notes.append(line)

    def note_removal(self, why: str, rows: int) -> None:
        """Record rows that were removed from the collection."""
        with self.lock:
            self.removed[why] = self.removed.get(why, 0) + rows
            self.notes.append(f"removed: {why}")

    def note_refusal(self, reason: str) -> None:
        """Record something that the run refused to do; the run fails at its end."""
        with self.lock:
            self.refusals.append(reason)

    def finish_group(self, group: list[Shard], error: Exception | None) -> None:
        """Record as failed every shard of a finished group that was not loaded."""
        with self.lock:
            missing = [shard for shard in group if shard.id not in self._loaded_shards and shard.id not in self.failed]
            for shard in missing:
                self.note_failure(shard, error or Permanent("it was neither loaded nor refused; please report this"))

    def has_loaded(self, shard: Shard) -> bool:
        """Whether this run has loaded a shard already, such as in an earlier attempt of a task."""
        with self.lock:
            return shard.id in self._loaded_shards

    def note_load(self, entry: Loaded) -> None:
        """Record a shard whose rows the collection acknowledged."""
        with self.lock:
            self.loaded += entry.rows
            self._loaded_shards.add(entry.shard)
            self.texts_cut += entry.cut
            self.without_vectors.pop(entry.shard, None)
            if entry.vectors_kept:
                self.without_vectors[entry.shard] = entry.vectors_kept
            self._outcomes["shard.loaded"][entry.shard] = _Outcome({"shard": entry.shard}, {"rows": entry.rows})

    @contextmanager
    def emitting(self, group: Iterable[Shard]) -> Iterator[None]:
        """Emit one event for all sealed shards of a group, named after the first, and one for all loaded ones, when the body ends.

        The server keeps every event for days; an event for each of thousands of shards would fill its database.
        """
        try:
            yield
        finally:
            self._emit_outcomes(group)

    def _emit_outcomes(self, group: Iterable[Shard]) -> None:
        ids = [shard.id for shard in group]
        for event, by_shard in self._outcomes.items():
            with self.lock:
                outcomes = [by_shard.pop(shard) for shard in ids if shard in by_shard]
            if outcomes:
                counts: dict[str, JsonValue] = {name: sum(each.counts[name] for each in outcomes) for name in outcomes[0].counts}
                self.emit(event, {**outcomes[0].names, **counts, "shards": len(outcomes)})

    def snapshot(self, *, ended: bool = False) -> Snapshot:
        encoding = self.encoding()  # outside the lock: the engine has its own
        with self.lock:
            self._shown = encoding if ended else encoding.not_behind(self._shown)
            return Snapshot(
                stage=self.stage,
                seconds=time.monotonic() - self.started,
                total=self.total,
                expected=self.expected if self.listed is None else self.listed or None,
                listing=self.listed is not None,
                reused=self.reused,
                encoded=self._shown.rows,
                tokens=self._shown.tokens,
                loaded=self.loaded,
                shards=self.shards,
                shards_sealed=len(self.sealed),
                shards_loaded=len(self._loaded_shards),
                shards_failed=len(self.failed),
                shards_before=self.before,
                encoding=encoding,
                failed=tuple(islice(self.failed.values(), SHARDS_NAMED)),
                slowest=tuple(sorted(self.slowest, reverse=True)),
                ended=ended,
                counted=self.counted,
                cached=sum(self.cached.values()),
                quarantined=self.quarantined,
                duplicates=self.duplicates,
                removed=sum(self.removed.values()),
                stages=self._seconds_by_stage(),
                waits_for=self.waits_for() or encoding.waits_for,
            )

    def _seconds_by_stage(self) -> dict[str, float]:
        """Seconds of every stage, including those in progress."""
        now = time.monotonic()
        running = {stage: now - self._since[stage] for stage, working in self._working.items() if working}
        return {stage: self.stages.get(stage, 0.0) + running.get(stage, 0.0) for stage in {**self.stages, **running}}

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Send a snapshot to the listeners every second, and a last one at the end."""
        # The ticker gets this thread's context, so that a listener's artifacts belong to the flow run.
        ticker = threading.Thread(target=copy_context().run, args=(self._tick,), daemon=True, name="journal")
        ticker.start()
        try:
            yield
        finally:
            self._over.set()
            ticker.join(timeout=5)
            self._notify(self.snapshot(ended=True))

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._log_failure_of(self._take_snapshot)

    def _take_snapshot(self) -> None:
        now = self.snapshot()
        self._sample(now)
        self._notify(now)

    def _sample(self, now: Snapshot) -> None:
        """Keep a sample of the progress; at `MOST_SAMPLES`, drop every other one and double the interval."""
        encoding = now.encoding
        by_rank = () if encoding.hosts else encoding.rows_by_rank
        rows = [host.rows for host in encoding.hosts]
        by_host = (*rows[:HOSTS_SAMPLED], *([sum(rows[HOSTS_SAMPLED:])] if rows[HOSTS_SAMPLED:] else []))
        sample = Progress(seconds=round(now.seconds, 2), rows=now.encoded, tokens=now.tokens, by_rank=by_rank, by_host=by_host)
        with self.lock:
            if self.samples and sample.seconds - self.samples[-1].seconds < self._sample_seconds:
                return
            self.samples.append(sample)
            if len(self.samples) >= MOST_SAMPLES:
                del self.samples[1::2]
                self._sample_seconds *= 2

    def _notify(self, now: Snapshot) -> None:
        for listener in (*LISTENERS, *self.listeners):
            self._log_failure_of(partial(listener, now))

    def _log_failure_of(self, step: Callable[[], None]) -> None:
        """Call `step`. A failing listener does not fail the run or other listeners; the first failure is logged as a warning."""
        try:
            step()
        except Exception:
            level, self._listener_failed = logging.DEBUG if self._listener_failed else logging.WARNING, True
            log.log(level, "a progress listener of this run failed; it is called again", exc_info=True)
