"""What a run notices about itself while it goes: for the progress line, the artifacts and the report."""

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
MOST_SAMPLES = 600  # of which a chart shows fewer
log = logging.getLogger("kitestring.run")


Listener = Callable[[Snapshot], None]
Teller = Callable[[str, Mapping[str, JsonValue]], None]
LISTENERS: list[Listener] = []  # whoever runs the flow in this process may watch it
HOSTS_SAMPLED = 7  # that a chart has colours for; all others are one more
SHARDS_NAMED = 10  # shards of a kind that a snapshot names


@dataclass(frozen=True, slots=True)
class _News:
    """The outcome of a shard that was not reported yet."""

    about: dict[str, JsonValue]
    counts: dict[str, int]


@dataclass(slots=True)
class Journal:
    """Thread-safe counts; the run's threads write, one ticking thread reads."""

    started: float = field(default_factory=time.monotonic)
    stage: str = "start"
    stages: dict[str, float] = field(default_factory=dict)
    total: int | None = None
    listed: int | None = None  # rows, of what is listed so far; None: the plan is complete
    expected: int | None = None  # about as many as `total`, where that is not known
    reused: int = 0
    loaded: int = 0
    texts_cut: int = 0
    without_vectors: dict[str, int] = field(default_factory=dict)  # shards, and rows of them that were sent without their vector
    replaced: set[str] = field(default_factory=set)  # shards that hosts have loaded and whose earlier seals may have left rows
    shards: int = 0
    before: int = 0  # shards that were complete when the run began
    slowest: list[tuple[float, str, int]] = field(default_factory=list)
    sealed: dict[str, int] = field(default_factory=dict)  # shards that this run sealed: rows that it encoded for them
    counted: Counted | None = None  # what the present stage counts
    cached: dict[str, int] = field(default_factory=dict)  # the same shards: rows whose vectors came from the cache
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # shard: its name, the error
    failed_rows: dict[str, int | None] = field(default_factory=dict)  # shard: the row that the error is about
    bad_input: set[str] = field(default_factory=set)  # shards that failed because of their content
    damaged: dict[str, tuple[str, str]] = field(default_factory=dict)  # shards whose seal was withdrawn: name, what was found
    adopted: int = 0
    quarantined: int = 0  # rows of the shards that this run sealed
    duplicates: int = 0
    repairs: int = 0  # documents that could not be read
    notes: list[str] = field(default_factory=list)  # decisions of the run
    removed: dict[str, int] = field(default_factory=dict)  # rows that left the collection, by why
    gate: Evaluation | None = None  # what it measured of the new collection
    refusals: list[str] = field(default_factory=list)  # what the run would not do, and how to make it
    samples: list[Progress] = field(default_factory=list)  # fewer and fewer of a long run
    encoding: Callable[[], EncodingProgress] = EncodingProgress  # how far the engine is
    lock: threading.RLock = field(default_factory=threading.RLock)
    listeners: list[Listener] = field(default_factory=list)  # this run's own
    tell: Teller = lambda _what, _payload: None  # what automations may act on
    span: Callable[[str], AbstractContextManager[object]] = nullcontext  # that traces a stage at work
    waits_for: Callable[[], str] = str  # what holds the run up; "": nothing
    _told: EncodingProgress = field(default_factory=EncodingProgress)  # as far as was told last
    _every: float = 0.9 * TICK_SECONDS  # seconds between two samples
    _loaded_shards: set[str] = field(default_factory=set)
    _working: dict[str, int] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    _unwatched: bool = False  # whether something that watches the run has failed
    _over: threading.Event = field(default_factory=threading.Event)
    _news: dict[str, dict[str, _News]] = field(default_factory=lambda: {"shard.sealed": {}, "shard.loaded": {}})

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Count the seconds in which a stage was at work, however many threads were at it."""
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
        """Show how many of so many are done, instead of encoded rows; gives what counts them. Many threads may call that."""
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
        """One more span of the source; the plan's thread alone tells of them. Raises Transient where the run is ending meanwhile."""
        if self._over.is_set():
            raise Transient("the run is ending: no more of the source is listed")
        self.listed = (self.listed or 0) + (span.rows or 0)

    def note_planned(self, shards: int) -> None:
        """The plan is complete."""
        with self.lock:
            self.shards, self.listed = shards, None

    def expect(self, shards: int, rows: int | None) -> None:
        """The work of this run; the other shards of the plan were complete when it began."""
        with self.lock:
            self.before, self.total = self.shards - shards, rows

    def foresee(self, rows: float) -> None:
        """About how many rows this run has to process."""
        with self.lock:
            self.expected = round(rows)

    def note_seal(self, seal: Seal, *, by_this_run: int, adopted: int, cached: int = 0) -> None:
        """A shard is sealed; `by_this_run` of its rows were encoded by this run, the rest by earlier ones."""
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
            self._news["shard.sealed"][seal.shard] = _News({"shard": seal.shard, "name": seal.name}, counts)

    def note_reuse(self, seal: Seal) -> None:
        """A shard was sealed by an earlier run."""
        with self.lock:
            self.reused += seal.embedded

    def note_amendment(self, shard: str, recovered: int) -> None:
        """Rows of a sealed shard came out of quarantine."""
        with self.lock:
            self.sealed[shard] = recovered

    def note_failure(self, shard: Shard, error: Exception) -> None:
        """A shard failed for good."""
        self.note_failed(shard.id, shard.name, error)

    def note_failed(self, shard: str, name: str, error: Exception) -> None:
        """The same, of the shard with this id and this name for people."""
        with self.lock:
            self.failed[shard] = (name, str(error))
            self.failed_rows[shard] = error.row if isinstance(error, KitestringError) else None
            (self.bad_input.add if isinstance(error, BadInput) else self.bad_input.discard)(shard)

    def note_damage(self, seal: Seal, damage: Exception) -> None:
        """A part of a sealed shard is damaged, and the seal was withdrawn."""
        with self.lock:
            self.damaged[seal.shard] = (seal.name, str(damage))
            self._loaded_shards.discard(seal.shard)

    def reopen(self, shard: str) -> None:
        """A shard differs from what this run left, and is processed again."""
        with self.lock:
            self._loaded_shards.discard(shard)

    def note_repair(self, line: str) -> None:
        """A document of the checkpoint could not be read, and is made anew; the first of them are named."""
        with self.lock:
            self.repairs += 1
            if self.repairs <= SHARDS_NAMED:
                self.notes.append(line)
            elif self.repairs == SHARDS_NAMED + 1:
                self.notes.append("more documents of the checkpoint could not be read: the log names them")

    def note(self, line: str) -> None:
        """A note for the end of the run."""
        with self.lock:
            self.notes.append(line)

    def note_removal(self, why: str, rows: int) -> None:
        """Rows have left the collection."""
        with self.lock:
            self.removed[why] = self.removed.get(why, 0) + rows
            self.notes.append(f"removed: {why}")

    def note_refusal(self, reason: str) -> None:
        """The run leaves something undone on purpose, and fails in the end."""
        with self.lock:
            self.refusals.append(reason)

    def finish_group(self, group: list[Shard], error: Exception | None) -> None:
        """A group has gone through every step: a shard of it that is not loaded has failed, whatever the cause."""
        with self.lock:
            lost = [shard for shard in group if shard.id not in self._loaded_shards and shard.id not in self.failed]
            for shard in lost:
                self.note_failure(shard, error or Permanent("it was neither loaded nor refused; please report this"))

    def has_loaded(self, shard: Shard) -> bool:
        """Whether this run has loaded a shard already; a task that is tried again asks."""
        with self.lock:
            return shard.id in self._loaded_shards

    def note_load(self, entry: Loaded) -> None:
        """A shard's rows were acknowledged by the collection."""
        with self.lock:
            self.loaded += entry.rows
            self._loaded_shards.add(entry.shard)
            self.texts_cut += entry.cut
            self.without_vectors.pop(entry.shard, None)
            if entry.vectors_kept:
                self.without_vectors[entry.shard] = entry.vectors_kept
            self._news["shard.loaded"][entry.shard] = _News({"shard": entry.shard}, {"rows": entry.rows})

    @contextmanager
    def telling(self, group: Iterable[Shard]) -> Iterator[None]:
        """Report the outcome of a group at its end: in one event for all that are sealed, named after the first, and in one for all loaded.

        The server keeps every event for days; one for each of thousands of shards would be most of its database.
        """
        try:
            yield
        finally:
            self._tell_of(group)

    def _tell_of(self, group: Iterable[Shard]) -> None:
        ids = [shard.id for shard in group]
        for what, news in self._news.items():
            with self.lock:
                told = [news.pop(shard) for shard in ids if shard in news]
            if told:
                counts: dict[str, JsonValue] = {name: sum(each.counts[name] for each in told) for name in told[0].counts}
                self.tell(what, {**told[0].about, **counts, "shards": len(told)})

    def snapshot(self, *, ended: bool = False) -> Snapshot:
        encoding = self.encoding()  # asked outside of the lock: the engine has its own
        with self.lock:
            self._told = encoding if ended else encoding.not_behind(self._told)
            return Snapshot(
                stage=self.stage,
                seconds=time.monotonic() - self.started,
                total=self.total,
                expected=self.expected if self.listed is None else self.listed or None,
                listing=self.listed is not None,
                reused=self.reused,
                encoded=self._told.rows,
                tokens=self._told.tokens,
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
        """Those of stages that are at work now as well."""
        now = time.monotonic()
        going = {stage: now - self._since[stage] for stage, working in self._working.items() if working}
        return {stage: self.stages.get(stage, 0.0) + going.get(stage, 0.0) for stage in {**self.stages, **going}}

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Take a snapshot for the listeners every second, and once more at the end."""
        # With this thread's context, so that a listener's artifacts belong to the flow run.
        ticker = threading.Thread(target=copy_context().run, args=(self._tick,), daemon=True, name="journal")
        ticker.start()
        try:
            yield
        finally:
            self._over.set()
            ticker.join(timeout=5)
            self._tell(self.snapshot(ended=True))

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._carefully(self._look)

    def _look(self) -> None:
        now = self.snapshot()
        self._sample(now)
        self._tell(now)

    def _sample(self, now: Snapshot) -> None:
        """Remember where the run is; when that has become much, every other moment is forgotten, and from then on more wait."""
        encoding = now.encoding
        by_rank = () if encoding.hosts else encoding.rows_by_rank
        rows = [host.rows for host in encoding.hosts]
        by_host = (*rows[:HOSTS_SAMPLED], *([sum(rows[HOSTS_SAMPLED:])] if rows[HOSTS_SAMPLED:] else []))
        sample = Progress(seconds=round(now.seconds, 2), rows=now.encoded, tokens=now.tokens, by_rank=by_rank, by_host=by_host)
        with self.lock:
            if self.samples and sample.seconds - self.samples[-1].seconds < self._every:
                return
            self.samples.append(sample)
            if len(self.samples) >= MOST_SAMPLES:
                del self.samples[1::2]
                self._every *= 2

    def _tell(self, now: Snapshot) -> None:
        for listener in (*LISTENERS, *self.listeners):
            self._carefully(partial(listener, now))

    def _carefully(self, watch: Callable[[], None]) -> None:
        """A failing listener does not fail the run or other listeners; the first failure is logged."""
        try:
            watch()
        except Exception:
            level, self._unwatched = logging.DEBUG if self._unwatched else logging.WARNING, True
            log.log(level, "what watches this run has failed, and is tried again", exc_info=True)
