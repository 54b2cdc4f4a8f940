"""A vector from the cache is the one that was put there under this key, or none; and nothing ever waits for a cache, or fails with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tasks.adapters.cache.memory_cache import MemoryCache
from tasks.adapters.cache.vector_cache import ENTRY_HEAD, VectorCache, packed
from tasks.domain.errors import Transient

DIM = 8
DIGESTS = [bytes([number]) * 16 for number in range(6)]
VECTORS = {digest: np.full(DIM, at, np.float32) for at, digest in enumerate(DIGESTS)}
LONG = 60.0  # seconds that no test waits


class Broken(MemoryCache):
    """Fails, or never answers."""

    def __init__(self, ask: Callable[[], None]) -> None:
        super().__init__()
        self.ask, self.asked = ask, 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked += 1
        self.ask()
        return super().get_many(keys)


def opened(cache: MemoryCache, *, fingerprint: str = "f", dim: int = DIM, deadline: float = LONG) -> VectorCache:
    return VectorCache(cache, fingerprint, dim=dim, ttl_seconds=60, deadline=deadline)


@pytest.fixture
def filled() -> MemoryCache:
    cache = MemoryCache()
    vectors = opened(cache)
    vectors.fill_later(lambda: VECTORS)
    vectors.close()
    return cache


def test_what_one_run_put_in_another_one_finds(filled: MemoryCache) -> None:
    found = opened(filled).vectors_of([DIGESTS[4], b"x" * 16, DIGESTS[1]])
    assert {at: vector.tolist() for at, vector in found.items()} == {0: [4.0] * DIM, 2: [1.0] * DIM}
    assert opened(filled, fingerprint="g").vectors_of(DIGESTS) == {}
    assert opened(filled, dim=4).vectors_of(DIGESTS) == {}


def test_a_poisoned_entry_is_a_miss(filled: MemoryCache) -> None:
    """Short, long, changed in any byte, of another key, not finite, no value of ours at all."""
    (one, (value, until)), (other, _), *_ = filled.entries.items()
    foreign = [value[:-1], value + b"\0", b"", b"x" * len(value), filled.entries[other][0], packed(one, np.full(DIM, np.nan, np.float32))]
    changed = [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] for at in (*range(ENTRY_HEAD.size), len(value) - 1)]
    for poison in (*foreign, *changed):
        filled.entries[one] = (poison, until)
        assert sorted(opened(filled).vectors_of(DIGESTS)) == [1, 2, 3, 4, 5], poison
    filled.entries[one] = (value, until)
    assert len(opened(filled).vectors_of(DIGESTS)) == len(DIGESTS)


def _fail() -> None:
    raise Transient("down")


@pytest.mark.parametrize("how", ["down", "slow"])
def test_a_cache_that_is_down_or_slow_costs_one_line_and_is_left_alone(how: str, caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()
    cache = Broken(_fail if how == "down" else lambda: never.wait() and None)
    vectors = opened(cache, deadline=LONG if how == "down" else 0.05)
    with caplog.at_level(logging.WARNING, "kitestring.cache"):
        for _ in range(5):
            assert vectors.vectors_of(DIGESTS) == {}
    never.set()
    assert cache.asked == 1
    assert len(caplog.records) == 1
    vectors.close()


def test_a_cache_without_room_keeps_nothing_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryCache):
        def put_many(self, *_: object, **__: object) -> None:
            raise Transient("out of memory")

    vectors = opened(Full())
    with caplog.at_level(logging.WARNING, "kitestring.cache"):
        vectors.fill_later(lambda: VECTORS)
        vectors.close()
    assert [record.message.count("out of memory") for record in caplog.records] == [1]
