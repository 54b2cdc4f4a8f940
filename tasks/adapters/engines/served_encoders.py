"""Encoders for a served model: threads send the texts of a piece in concurrent requests and write the returned vectors into a part.

No process is started and no model library is imported. Two pieces are in progress at a time, so that the server has work while the last
answers of one arrive and its part is written; in a run's figures they count as ranks.
"""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import numpy as np
import pyarrow as pa

from tasks.adapters.checkpoint.part_files import PartMeta, part_of, vector_column, write_part
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.pieces import merge_taken
from tasks.adapters.rows.row_schema import as_part, part_schema
from tasks.adapters.served.request_batches import plan_requests
from tasks.adapters.served.row_isolation import BatchOutcome, embed_batch
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay
from tasks.domain.encoding.protocol import Piece
from tasks.domain.encoding.throughput import Throughput
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.shards.seal import EncodeStats, Part, Quarantined

PIECES = 2  # in progress at a time
QUEUED = 2 * PIECES


class ServedEncoders:
    """See `tasks.domain.ports.Encoders`."""

    def __init__(self, place: Workplace) -> None:
        job, self._scratch = place.job, place.scratch
        if (place.model or locate_model(job.encoder)).weights != place.spec.weights:
            raise BadInput(
                "encoder: the served model of this machine's job differs from the one that the run began with: make them the same"
            )
        settings, pinned, rows = cast("ServedEncoder", job.encoder), place.spec.pinned, job.compute.batch_rows
        self._model = ServedModel(
            settings,
            pinned=pinned.facts.server if pinned else None,
            patience=job.failures.stall_seconds,
            startup=job.failures.startup_seconds,
            batch_rows=None if rows == "auto" else rows,
            whole=job.source.chunking is not None,
            share=lambda: place.requests.most,
        )
        self.pace = Throughput(ranks=PIECES)
        self._store = open_store(place.parts, proven=True)
        self._schema = part_schema(place.spec.fields, store_text=job.target.store_text)
        self._room, self._closed, self._lock = threading.Semaphore(QUEUED), threading.Event(), threading.Lock()
        self._threads = ThreadPoolExecutor(PIECES, thread_name_prefix="served-piece")
        self._requests = ThreadPoolExecutor(settings.most_requests, thread_name_prefix="served-request")
        self._ranks: SimpleQueue[int] = SimpleQueue()
        for rank in range(PIECES):
            self._ranks.put(rank)
        self._facts: Future[EncoderFacts] | None = None
        self._startup: dict[str, float] = {}
        self._newest: dict[int, str] = {}
        self._at: dict[int, UnderWay] = {}

    def start(self) -> None:
        """See `EncodingService`; asks the server for its facts."""
        with self._lock:
            if self._closed.is_set() or (self._facts and not _failed_for_now(self._facts)):
                return
            self._facts = Future()
            threading.Thread(target=self._fetch_facts, args=(self._facts,), daemon=True, name="served-facts").start()

    def facts(self) -> EncoderFacts:
        """See `EncodingService`."""
        self.start()
        if self._facts is None:
            raise Transient("the encoder is closed: the run is ending")
        return self._facts.result()

    def submit(self, piece: Piece) -> Future[Part]:
        """See `Encoders`."""
        self._room.acquire()
        with self._lock:
            if self._closed.is_set():
                self._room.release()
                raise Transient("the encoder is closed: the run is ending")
            part = self._threads.submit(self._encode, piece)
        part.add_done_callback(lambda _: self._room.release())
        return part

    def progress(self) -> EncodingProgress:
        """See `EncodingService`."""
        with self._lock:
            at, newest = [self._at[rank] for rank in sorted(self._at)], dict(self._newest)
        return self.pace.progress(under_way=at, newest=newest, startup=self._startup, waits_for=self._model.waits_for)

    def release(self, *, wait: bool = False) -> None:
        """Does nothing: it holds no device."""

    def close(self) -> None:
        """See `EncodingService`."""
        with self._lock:
            self._closed.set()
        self._model.close()
        for pool in (self._threads, self._requests):
            pool.shutdown()

    def _fetch_facts(self, facts: Future[EncoderFacts]) -> None:
        began = time.monotonic()
        try:
            fetched = self._model.facts()
        except BaseException as error:  # noqa: BLE001 - raised again by the future
            facts.set_exception(error)
        else:
            self._startup = {"ask the server": time.monotonic() - began}
            facts.set_result(fetched)

    def _encode(self, piece: Piece) -> Part:
        rank = self._ranks.get()
        try:
            return self._part_of(piece, rank)
        finally:
            with self._lock:
                self._at.pop(rank, None)
            self.pace.gone(rank)
            self._ranks.put(rank)

    def _part_of(self, piece: Piece, rank: int) -> Part:
        facts, rows = self.facts(), _read_rows(piece)
        began = time.perf_counter()
        outcome = self._vectors(piece, rank, rows, facts.dim)
        stats = EncodeStats(encode_seconds=max(1e-6, time.perf_counter() - began), backend=facts.device)
        part = self._put(piece, rows, outcome, stats)
        self.pace.done(rank, part)
        with self._lock:
            self._newest[rank] = piece.name
        return part

    def _vectors(self, piece: Piece, rank: int, rows: pa.Table, dim: int) -> BatchOutcome:
        texts, numbers = rows.column("text").to_pylist(), rows.column("row").to_pylist()
        whole, done = BatchOutcome(np.zeros((len(texts), dim), np.float32)), 0
        batches = plan_requests(
            texts, most=self._model.most_rows, alone={at for at, row in enumerate(numbers) if row in set(piece.suspects)}
        )
        self._note(piece, rank, 0)
        sent = {self._requests.submit(embed_batch, self._model, [texts[at] for at in batch], dim): batch for batch in batches}
        try:
            for answered in as_completed(sent):
                batch, outcome = sent[answered], answered.result()
                whole.vectors[batch] = outcome.vectors
                whole.refused.update((batch[at], reason) for at, reason in outcome.refused.items())
                done += len(batch)
                self._note(piece, rank, done)
        finally:
            for waiting in sent:
                waiting.cancel()
        return whole

    def _note(self, piece: Piece, rank: int, done: int) -> None:
        self.pace.at(rank, piece.key, done)
        with self._lock:
            self._at[rank] = UnderWay(rank=rank, shard=piece.name, first=piece.first, stop=piece.stop, done=done)

    def _put(self, piece: Piece, rows: pa.Table, outcome: BatchOutcome, stats: EncodeStats) -> Part:
        began, embedded = time.perf_counter(), np.array([at not in outcome.refused for at in range(rows.num_rows)], bool)
        good = rows.filter(pa.array(embedded))
        table, reused = as_part(good, vector_column(outcome.vectors[embedded]), piece.shard, self._schema), 0
        if piece.taken:
            table, reused, taken = merge_taken(good, table, piece, self._schema)
            stats += taken
        refused = [(rows.slice(at, 1).to_pylist()[0], reason) for at, reason in sorted(outcome.refused.items())]
        quarantined = tuple(Quarantined(row=row["row"], id=row["id"], reason=reason) for row, reason in refused)
        meta = PartMeta(shard=piece.shard, first=piece.first, stop=piece.stop, quarantined=quarantined, stats=stats, reused=reused)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="part-") as folder:
            path = Path(folder) / "part.parquet"
            write_part(path, table, meta)
            data = path.read_bytes()
        self._store.write(piece.key, data)
        part = part_of(piece.key, data, table, meta)
        return part.model_copy(update={"stats": stats.model_copy(update={"write_seconds": time.perf_counter() - began})})


def _failed_for_now(facts: Future[EncoderFacts]) -> bool:
    """Whether it failed with Transient, so that another attempt may succeed."""
    return facts.done() and isinstance(facts.exception(), Transient)


def _read_rows(piece: Piece) -> pa.Table:
    try:
        with pa.memory_map(piece.rows) as file:
            return pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise Permanent(f"the rows {piece.first}-{piece.stop - 1} of shard {piece.shard} cannot be read from scratch: {error}") from error
