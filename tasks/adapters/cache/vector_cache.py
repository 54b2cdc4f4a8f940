"""Vectors in a cache: stored with dimension and a checksum over key and vector, read with a deadline, written in the background.

A value that is corrupt, short, of another key or of another dimension is a miss. A cache that is down, slow or full is logged once
and not used for a while: it delays no row and loses none.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate

import numpy as np

from tasks.domain.errors import KitestringError
from tasks.domain.ports import Cache

BATCH_KEYS = 256  # per read: 0.4 MB at 384 dimensions
CACHE_PAUSE_SECONDS = 30.0  # after a failure
WAITING_PARTS = 64  # bound of the write queue; parts beyond it are dropped
CLOSE_SECONDS = 5.0  # to drain the queue at the end
ENTRY_HEAD = struct.Struct("<4sI16s")  # magic, dimension, checksum
MAGIC = b"KSV1"
Fill = Callable[[], Mapping[bytes, np.ndarray]]
log = logging.getLogger("kitestring.cache")


def packed(key: bytes, vector: np.ndarray) -> bytes:
    """Encode a vector as a cache value."""
    data = np.ascontiguousarray(vector, "<f4").tobytes()
    return ENTRY_HEAD.pack(MAGIC, len(vector), _checksum(key, data)) + data


def unpacked(key: bytes, value: bytes | None, dim: int) -> np.ndarray | None:
    """Decode a value to a float32 vector of shape (dim,); None if it does not belong to this key and dimension."""
    if value is None or len(value) != ENTRY_HEAD.size + 4 * dim:
        return None
    magic, stored_dim, checksum = ENTRY_HEAD.unpack_from(value)
    data = value[ENTRY_HEAD.size :]
    if (magic, stored_dim) != (MAGIC, dim) or checksum != _checksum(key, data):
        return None
    vector = np.frombuffer(data, "<f4")
    return vector if np.isfinite(vector).all() else None


def _checksum(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=hashlib.sha256(key).digest()).digest()


class VectorCache:
    """Vectors of one encoder by digest. Thread-safe.

    Args:
        cache: the store of keys and values.
        shared_as: key prefix of the encoder's vectors, see `tasks.domain.encoder_identity.EncoderRecord`.
        dim: dimension of the vectors.
        ttl_seconds: lifetime of an entry.
        deadline: seconds to wait for a batch; also for `close`, if more than CLOSE_SECONDS.
    """

    def __init__(self, cache: Cache, shared_as: str, *, dim: int, ttl_seconds: int, deadline: float) -> None:
        self._cache, self._prefix, self.dim, self._seconds = cache, f"kitestring:1:{shared_as}:".encode(), dim, ttl_seconds
        self._deadline = deadline
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="cache-ask")
        self._waiting: queue.Queue[Fill | None] = queue.Queue(WAITING_PARTS)
        self._paused_until = 0.0
        self._warned = False
        self._filler = threading.Thread(target=self._fill, name="cache-fill", daemon=True)
        self._filler.start()

    def vectors_of(self, digests: Sequence[bytes]) -> dict[int, np.ndarray]:
        """Return the cached vectors by position in `digests`."""
        found: dict[int, np.ndarray] = {}
        for first in range(0, len(digests), BATCH_KEYS):
            keys = [self._prefix + digest for digest in digests[first : first + BATCH_KEYS]]
            for at, value in enumerate(self._read(keys)):
                vector = unpacked(keys[at], value, self.dim)
                if vector is not None:
                    found[first + at] = vector
        return found

    def _read(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values; empty if the cache is paused, fails, or misses the deadline."""
        if time.monotonic() < self._paused_until:
            return []
        reply: Future[list[bytes | None]] = self._readers.submit(self._cache.get_many, keys)
        try:
            return reply.result(self._deadline)
        except TooLate:
            reply.cancel()
            self._pause(f"no answer within {1_000 * self._deadline:.0f} ms")
        except KitestringError as error:
            self._pause(str(error))
        return []

    def fill_later(self, fill: Fill) -> None:
        """Queue vectors (by digest) for writing; dropped if the queue is full or the cache is paused."""
        if time.monotonic() >= self._paused_until:
            try:
                self._waiting.put_nowait(fill)
            except queue.Full:
                return

    def close(self) -> None:
        """Write the queued vectors, within the time limit, and close the cache."""
        seconds = max(CLOSE_SECONDS, self._deadline)
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            pass
        else:
            self._filler.join(seconds)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._cache.close()

    def _fill(self) -> None:
        while (fill := self._waiting.get()) is not None:
            if time.monotonic() < self._paused_until:
                continue
            try:
                self._put(fill())
            except KitestringError as error:
                self._pause(str(error))
            except Exception as error:  # noqa: BLE001 - a cache never fails a run
                self._pause(f"{type(error).__name__}: {error}"[:200])

    def _put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        values = {self._prefix + digest: vector for digest, vector in vectors.items()}
        keys = list(values)
        for first in range(0, len(keys), BATCH_KEYS):
            batch = keys[first : first + BATCH_KEYS]
            self._cache.put_many({key: packed(key, values[key]) for key in batch}, seconds=self._seconds)

    def _pause(self, reason: str) -> None:
        self._paused_until = time.monotonic() + CACHE_PAUSE_SECONDS
        if not self._warned:
            self._warned = True
            log.warning("the vector cache is paused; the run does not depend on it: %s", reason)
