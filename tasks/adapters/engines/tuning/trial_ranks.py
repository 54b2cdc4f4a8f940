"""Ranks that encode a sample for a trial: launches, pieces and parts as in a run, but parts stay in scratch and nothing is sealed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.adapters.checkpoint.part_files import part_vectors, read_part
from tasks.adapters.engines.encoders_by_kind import open_encoders
from tasks.adapters.engines.workplace import open_workplace
from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.pieces import PieceRows
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.encoding.protocol import Piece
from tasks.domain.encoding.tune.trials import TrialSettings
from tasks.domain.errors import KitestringError, Transient
from tasks.domain.job.job import Job
from tasks.domain.ports import Encoders, Store
from tasks.domain.shards.seal import Part

WARMING_ROWS = 64  # rows of each warm-up piece; the vectors of the first piece are compared between trials
PIECE_SECONDS_MEASURED = 2.0  # of one rank: shorter than in a run, so that a measurement covers several pieces
LARGEST_ROWS = 50_000  # of a piece
POLL = 0.05


def job_with(job: Job, settings: TrialSettings) -> Job:
    """The job with these settings in place of its own."""
    values = settings.model_dump(exclude={"precision", "shuffled"}, exclude_none=True)
    compute = job.compute.model_copy(update=values)
    encoder = job.encoder if settings.precision == "auto" else job.encoder.model_copy(update={"precision": settings.precision})
    return job.model_copy(update={"compute": compute, "encoder": encoder})


@dataclass(slots=True, kw_only=True)
class TrialRanks:
    """Ranks under trial settings, which encode the sample repeatedly."""

    encoders: Encoders
    rows: pa.Table
    settings: TrialSettings
    scratch: Path
    parts: list[Future[Part]] = field(default_factory=list)
    _store: Store
    _next: int = 0

    def warm(self) -> None:
        """Submit pieces until every rank has encoded one: the first batches of a process are slow.

        Raises:
            KitestringError: the encoder cannot be loaded, or a piece failed.
        """
        self.encoders.facts()
        while len(self.encoders.progress().work) < self.settings.processes:
            self.check()
            if sum(not part.done() for part in self.parts) < 2 * self.settings.processes:
                self.submit(WARMING_ROWS)
            time.sleep(POLL)

    def encode(self, rows: int, *, piece: int) -> float:
        """Encode `rows` rows in pieces of `piece` rows; return the seconds it took."""
        began, first = time.monotonic(), len(self.parts)
        for begin in range(0, rows, piece):
            self.submit(min(piece, rows - begin))
        for part in self.parts[first:]:
            part.result()
        return time.monotonic() - began

    def keep_busy(self, rows: int) -> None:
        """Keep the queue full with pieces of `rows` rows, from a thread, until the encoders are closed."""
        threading.Thread(target=self._feed, args=(rows,), daemon=True, name="trial-feeder").start()

    def _feed(self, rows: int) -> None:
        with suppress(KitestringError, OSError):  # raised once the encoders are closed and scratch is removed
            while True:
                self.submit(rows)

    def submit(self, count: int) -> None:
        """Queue the next rows of the sample as one piece."""
        first, stop = self._next, self._next + count
        self._next = stop
        path = self.scratch / f"sample-{first}.arrow"
        PieceRows(first=first, stop=stop, batches=_numbered(self.rows, first, stop).to_batches(), rows=count).write(path)
        part = self.encoders.submit(Piece(shard="sample", name="sample", first=first, stop=stop, rows=str(path), key=_key(first)))
        part.add_done_callback(lambda _: path.unlink(missing_ok=True))
        self.parts.append(part)

    def check(self) -> None:
        """Raise the first error of any finished piece."""
        for part in self.parts:
            if part.done() and (error := part.exception()) is not None:
                raise error

    def vectors(self) -> npt.NDArray[np.float32]:
        """Vectors of the first piece, float32 of shape (rows, dim)."""
        data = self._store.read(_key(0))
        if data is None:
            raise Transient("the trial's first part is missing in scratch")
        table, _ = read_part(data)
        return np.asarray(part_vectors(table), dtype=np.float32)

    def piece_rows(self) -> int:
        """Rows of a piece that takes some seconds and fills several batches."""
        now = self.encoders.progress()
        busy = sum(work.encode_seconds for work in now.work)
        fast = int(sum(work.rows for work in now.work) / busy * PIECE_SECONDS_MEASURED) if busy else 0
        batch, tokens = self.settings.batch or 1, now.tokens / now.rows if now.rows and now.tokens else 1.0
        filled = int(2 * batch / (tokens if self.settings.batch_tokens else 1.0))
        return min(LARGEST_ROWS, max(WARMING_ROWS, fast, filled))

    @property
    def memory(self) -> int:
        """Bytes of all ranks together: GPU memory on GPUs, otherwise resident memory."""
        return together(self.encoders.progress().memory)

    @property
    def halved(self) -> int:
        """Batches that were halved because they did not fit into memory."""
        return sum(work.halved for work in self.encoders.progress().work)


def together(memory: Mapping[str, int]) -> int:
    """The bytes of all ranks: those on GPUs, if there are any."""
    cards = [size for name, size in memory.items() if name.endswith(", GPU")]
    return sum(cards or memory.values())


@contextmanager
def open_trial(
    spec: EncodingSpec, settings: TrialSettings, rows: pa.Table, *, scratch: Path, store: Store, model: LocatedModel
) -> Iterator[TrialRanks]:
    """Ranks for a trial; closed on exit.

    Args:
        spec: the run of the job that is tuned; parts stay in scratch.
        settings: the settings of this trial.
        rows: the sample, in the form of `tasks.adapters.rows.row_schema`.
        scratch: an empty folder.
        store: the checkpoint; only read.
        model: the model's files.
    """
    pinned = spec.pinned if settings.precision == "auto" else None
    tried = spec.model_copy(update={"job": job_with(spec.job, settings), "pinned": pinned, "dry": True})
    place = open_workplace(tried, scratch=scratch, tell=lambda _: None, store=store, model=model)
    encoders = open_encoders(place)
    try:
        sample = _shuffled(rows) if settings.shuffled else rows
        yield TrialRanks(encoders=encoders, rows=sample, settings=settings, scratch=scratch, _store=open_store(place.parts))
    finally:
        encoders.close()


def _shuffled(rows: pa.Table) -> pa.Table:
    return rows.take(pa.array(np.random.default_rng(0).permutation(rows.num_rows)))


def _numbered(rows: pa.Table, first: int, stop: int) -> pa.Table:
    """Rows [first, stop) of the endlessly repeated sample; positions keep increasing."""
    begin, count = first % rows.num_rows, stop - first
    turns = -(-(begin + count) // rows.num_rows)
    chosen = pa.concat_tables([rows] * turns).slice(begin, count)
    return chosen.set_column(0, chosen.schema.field(0), pa.array(range(first, stop), pa.int64())).combine_chunks()


def _key(first: int) -> str:
    return f"part-{first}.parquet"
