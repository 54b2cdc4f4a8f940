"""Ranks that encode a sample for a trial: the launches, pieces and parts of a run, with parts in scratch and nothing sealed."""

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

WARMING_ROWS = 64  # of the first pieces; the vectors of the very first are compared
PIECE_SECONDS_MEASURED = 2.0  # of one rank: less than a run's, so that several are done while it is measured
LARGEST_ROWS = 50_000  # of a piece
POLL = 0.05


def job_with(job: Job, settings: TrialSettings) -> Job:
    """A job that leaves nothing of these settings to `auto`."""
    given = settings.model_dump(exclude={"precision", "shuffled"}, exclude_none=True)
    compute = job.compute.model_copy(update=given)
    encoder = job.encoder if settings.precision == "auto" else job.encoder.model_copy(update={"precision": settings.precision})
    return job.model_copy(update={"compute": compute, "encoder": encoder})


@dataclass(slots=True, kw_only=True)
class TrialRanks:
    """Ranks with some settings, and the rows that they are given, over and over."""

    encoders: Encoders
    rows: pa.Table
    settings: TrialSettings
    scratch: Path
    parts: list[Future[Part]] = field(default_factory=list)
    _store: Store
    _next: int = 0

    def warm(self) -> None:
        """Until every rank has encoded something: the first batches of a process are slow.

        Raises:
            KitestringError: the encoder cannot be loaded, or encodes nothing.
        """
        self.encoders.facts()
        while len(self.encoders.progress().work) < self.settings.processes:
            self.check()
            if sum(not part.done() for part in self.parts) < 2 * self.settings.processes:
                self.submit(WARMING_ROWS)
            time.sleep(POLL)

    def encode(self, rows: int, *, piece: int) -> float:
        """Encode so many rows in pieces of equal size; the seconds that it took."""
        began, first = time.monotonic(), len(self.parts)
        for begin in range(0, rows, piece):
            self.submit(min(piece, rows - begin))
        for part in self.parts[first:]:
            part.result()
        return time.monotonic() - began

    def keep_busy(self, rows: int) -> None:
        """Have pieces of so many rows waiting until the encoders are closed; returns at once."""
        threading.Thread(target=self._feed, args=(rows,), daemon=True, name="trial-feeder").start()

    def _feed(self, rows: int) -> None:
        with suppress(KitestringError, OSError):  # closed, and its scratch is gone
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
        """Raises what befell a piece."""
        for part in self.parts:
            if part.done() and (error := part.exception()) is not None:
                raise error

    def vectors(self) -> npt.NDArray[np.float32]:
        """Of the first piece, float32 of shape (rows, dim)."""
        data = self._store.read(_key(0))
        if data is None:
            raise Transient("the trial's first part is not there")
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
        """Bytes of all ranks together: on GPUs of the cards, else resident."""
        return together(self.encoders.progress().memory)

    @property
    def halved(self) -> int:
        """Batches that did not fit into memory."""
        return sum(work.halved for work in self.encoders.progress().work)


def together(memory: Mapping[str, int]) -> int:
    """The bytes of all ranks: those on cards, where there are any."""
    cards = [size for name, size in memory.items() if name.endswith(", GPU")]
    return sum(cards or memory.values())


@contextmanager
def open_trial(
    spec: EncodingSpec, settings: TrialSettings, rows: pa.Table, *, scratch: Path, store: Store, model: LocatedModel
) -> Iterator[TrialRanks]:
    """Ranks for a trial; they are gone on leaving.

    Args:
        spec: of the job that is tuned; its parts stay in scratch.
        settings: what is tried.
        rows: the sample, in the form of `tasks.adapters.rows.row_schema`.
        scratch: an empty folder.
        store: the checkpoint, which is only read.
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
    """Rows [first, stop) of the sample repeated without end; positions go on counting."""
    begin, count = first % rows.num_rows, stop - first
    turns = -(-(begin + count) // rows.num_rows)
    chosen = pa.concat_tables([rows] * turns).slice(begin, count)
    return chosen.set_column(0, chosen.schema.field(0), pa.array(range(first, stop), pa.int64())).combine_chunks()


def _key(first: int) -> str:
    return f"part-{first}.parquet"
