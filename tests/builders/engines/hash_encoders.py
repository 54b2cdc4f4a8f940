"""Encoders without a model and without a process: one thread, and vectors made from the words of a text."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.checkpoint.part_files import PartMeta, documents_in, part_of, vector_column, write_part
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.pieces import merge_taken
from tasks.adapters.rows.row_schema import part_schema
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay
from tasks.domain.encoding.protocol import Piece
from tasks.domain.encoding.throughput import Throughput
from tasks.domain.errors import Permanent, Transient
from tasks.domain.job.encoder import ENCODERS, EncoderKind
from tasks.domain.shards.seal import EncodeStats, Part, Quarantined

DIM = 32
QUEUED = 4
POISON = "poison"  # a text with this word gets no vector


def by_hash(kind: str) -> EncoderKind:
    """A kind of encoder as it is, but for who turns its pieces into parts."""
    return replace(ENCODERS[kind], encoders=f"{__name__}:HashEncoders")


def vectors_of_texts(texts: list[str]) -> np.ndarray:
    """Float32 of shape (texts, DIM): the sum of a vector for each word."""
    words = {word: np.random.default_rng(int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)) for text in texts for word in text.split()}
    known = {word: chance.standard_normal(DIM) for word, chance in words.items()}
    return np.array([np.sum([known[word] for word in text.split()], axis=0) for text in texts], np.float32).reshape(-1, DIM)


class HashEncoders:
    """`Encoders`, by one thread."""

    def __init__(self, place: Workplace) -> None:
        self.pace = Throughput(ranks=1)
        self._scratch, self._store = place.scratch, open_store(place.parts, proven=True)
        self._fields = place.spec.fields
        self._schema = part_schema(place.spec.fields, store_text=place.job.target.store_text)
        self._room, self._closed = threading.Semaphore(QUEUED), threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hash-encoder")
        self._newest: dict[int, str] = {}
        self._at: tuple[UnderWay, ...] = ()

    def start(self) -> None:
        """There is nothing to load."""

    def facts(self) -> EncoderFacts:
        return EncoderFacts(dim=DIM, max_seq_length=None, precision="float32", device="thread")

    def submit(self, piece: Piece) -> Future[Part]:
        self._room.acquire()
        if self._closed.is_set():
            self._room.release()
            raise Transient("the encoder is closed")
        part = self._thread.submit(self._encode, piece)
        part.add_done_callback(lambda _: self._room.release())
        return part

    def progress(self) -> EncodingProgress:
        return self.pace.progress(under_way=self._at, newest=self._newest, startup={})

    def release(self, *, wait: bool = False) -> None:
        """It holds no device."""

    def close(self) -> None:
        self._closed.set()
        self._thread.shutdown()

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Float32 of shape (texts, DIM)."""
        return vectors_of_texts(texts)

    def _encode(self, piece: Piece) -> Part:
        if self._closed.is_set():
            raise Transient("the encoder is closed")
        began = time.perf_counter()
        self._at = (UnderWay(rank=0, shard=piece.name, first=piece.first, stop=piece.stop, done=0),)
        try:
            with pa.memory_map(piece.rows) as file:
                rows = pa.ipc.open_file(file).read_all()
        except OSError as error:
            raise Permanent(f"the rows cannot be read from scratch: {error}") from error
        bad = pc.match_substring(rows.column("text"), POISON)
        good, aside = rows.filter(pc.invert(bad)), rows.filter(bad)
        vectors = self.vectors(good.column("text").to_pylist())
        part = self._put(piece, good, vectors, aside, EncodeStats(encode_seconds=max(1e-6, time.perf_counter() - began)))
        self.pace.done(0, part)
        self._newest, self._at = {0: piece.name}, ()
        return part

    def _put(self, piece: Piece, rows: pa.Table, vectors: np.ndarray, aside: pa.Table, stats: EncodeStats) -> Part:
        made = {"vector": vector_column(vectors), "shard": pa.repeat(pa.scalar(piece.shard), rows.num_rows)}
        columns = [made[name] if name in made else rows.column(name) for name in self._schema.names]
        table = pa.table(columns, schema=self._schema)
        table, reused, _ = merge_taken(rows, table, piece, self._schema) if piece.taken else (table, 0, None)
        reasons = tuple(Quarantined(row=row["row"], id=row["id"], reason="not finite: poison") for row in aside.to_pylist())
        meta = PartMeta(
            shard=piece.shard,
            first=piece.first,
            stop=piece.stop,
            quarantined=reasons,
            stats=stats,
            reused=reused,
            documents=documents_in(table, self._fields),
        )
        path = self._scratch / f"{piece.shard}-{piece.first}.parquet"
        write_part(path, table, meta)
        data = path.read_bytes()
        path.unlink()
        self._store.write(piece.key, data)
        return part_of(piece.key, data, table, meta)
