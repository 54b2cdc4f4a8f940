"""Vectors in a cache: each with its dimension and a checksum over key and vector, asked for with a deadline, put in behind everybody's back.

A value that is wrong, short, of another key or of another dimension is a miss. A cache that is down, slow or full costs one line of the log,
and is left alone for a while: no row waits for it, and none is lost by it.
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

BATCH_KEYS = 256  # asked for at a time: 0.4 MB of 384 dimensions
LEFT_ALONE_SECONDS = 30.0  # after it has failed
WAITING_PARTS = 64  # that are still to be put in; more are left out
CLOSE_SECONDS = 5.0  # within which those are put in at the end
ENTRY_HEAD = struct.Struct("<4sI16s")  # magic, dimension, checksum
MAGIC = b"KSV1"
Fill = Callable[[], Mapping[bytes, np.ndarray]]
log = logging.getLogger("kitestring.cache")


def packed(key: bytes, vector: np.ndarray) -> bytes:
    """A value of the cache."""
    data = np.ascontiguousarray(vector, "<f4").tobytes()
    return ENTRY_HEAD.pack(MAGIC, len(vector), _checksum(key, data)) + data


def unpacked(key: bytes, value: bytes | None, dim: int) -> np.ndarray | None:
    """The vector: float32 of shape (dim,); None where the value is not one of this key and dimension."""
    if value is None or len(value) != ENTRY_HEAD.size + 4 * dim:
        return None
    magic, told, checksum = ENTRY_HEAD.unpack_from(value)
    data = value[ENTRY_HEAD.size :]
    if (magic, told) != (MAGIC, dim) or checksum != _checksum(key, data):
        return None
    vector = np.frombuffer(data, "<f4")
    return vector if np.isfinite(vector).all() else None


def _checksum(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=hashlib.sha256(key).digest()).digest()


class VectorCache:
    """Vectors of one encoder by digest. Many threads may use one.

    Args:
        cache: where they are.
        shared_as: what the encoder's vectors are known by, see `tasks.domain.encoder_identity.EncoderRecord`.
        dim: of its vectors.
        ttl_seconds: after which an entry is forgotten.
        deadline: seconds that a batch is waited for, and the end, where CLOSE_SECONDS are fewer.
    """

    def __init__(self, cache: Cache, shared_as: str, *, dim: int, ttl_seconds: int, deadline: float) -> None:
        self._cache, self._prefix, self.dim, self._seconds = cache, f"kitestring:1:{shared_as}:".encode(), dim, ttl_seconds
        self._deadline = deadline
        self._asking = ThreadPoolExecutor(2, thread_name_prefix="cache-ask")
        self._waiting: queue.Queue[Fill | None] = queue.Queue(WAITING_PARTS)
        self._asked_again_at = 0.0
        self._told = False
        self._filler = threading.Thread(target=self._fill, name="cache-fill", daemon=True)
        self._filler.start()

    def vectors_of(self, digests: Sequence[bytes]) -> dict[int, np.ndarray]:
        """Those that are known, by position."""
        found: dict[int, np.ndarray] = {}
        for first in range(0, len(digests), BATCH_KEYS):
            keys = [self._prefix + digest for digest in digests[first : first + BATCH_KEYS]]
            for at, value in enumerate(self._ask(keys)):
                vector = unpacked(keys[at], value, self.dim)
                if vector is not None:
                    found[first + at] = vector
        return found

    def _ask(self, keys: list[bytes]) -> list[bytes | None]:
        """The values; nothing where the cache is left alone, fails, or takes longer than the deadline."""
        if time.monotonic() < self._asked_again_at:
            return []
        asked: Future[list[bytes | None]] = self._asking.submit(self._cache.get_many, keys)
        try:
            return asked.result(self._deadline)
        except TooLate:
            asked.cancel()
            self._leave_alone(f"no answer within {1_000 * self._deadline:.0f} ms")
        except KitestringError as error:
            self._leave_alone(str(error))
        return []

    def fill_later(self, fill: Fill) -> None:
        """Put vectors in (by digest) once there is time; not if many wait already, or the cache is left alone."""
        if time.monotonic() >= self._asked_again_at:
            try:
                self._waiting.put_nowait(fill)
            except queue.Full:
                return

    def close(self) -> None:
        """Put in what waits, for some seconds at most."""
        seconds = max(CLOSE_SECONDS, self._deadline)
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            pass
        else:
            self._filler.join(seconds)
        self._asking.shutdown(wait=False, cancel_futures=True)
        self._cache.close()

    def _fill(self) -> None:
        while (fill := self._waiting.get()) is not None:
            if time.monotonic() < self._asked_again_at:
                continue
            try:
                self._put(fill())
            except KitestringError as error:
                self._leave_alone(str(error))
            except Exception as error:  # noqa: BLE001 - no run ends for its cache
                self._leave_alone(f"{type(error).__name__}: {error}"[:200])

    def _put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        values = {self._prefix + digest: vector for digest, vector in vectors.items()}
        keys = list(values)
        for first in range(0, len(keys), BATCH_KEYS):
            some = keys[first : first + BATCH_KEYS]
            self._cache.put_many({key: packed(key, values[key]) for key in some}, seconds=self._seconds)

    def _leave_alone(self, why: str) -> None:
        self._asked_again_at = time.monotonic() + LEFT_ALONE_SECONDS
        if not self._told:
            self._told = True
            log.warning("the cache of vectors is not used for now, and nothing depends on it: %s", why)
