"""The behaviour of every cache: real Redis and the twin in memory; and what a password, no room and no server come to."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tasks.adapters.cache.memory_cache import MemoryCache
from tasks.adapters.cache.redis_cache import RedisCache, provide_password
from tasks.adapters.cache.registry import open_cache
from tasks.domain.errors import Transient
from tasks.domain.job.services import CacheSettings
from tasks.domain.ports import Cache
from tests.servers.milvus import free_ports
from tests.servers.redis import redis_process


@pytest.fixture(params=["redis", "memory"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    with redis_process() as uri:
        opened = open_cache(CacheSettings(uri=uri))
        yield opened
        opened.close()


def test_it_gives_what_was_put_and_nothing_else_in_order(cache: Cache) -> None:
    assert cache.get_many([b"a", b"b"]) == [None, None]
    cache.put_many({b"a": b"\x00one", b"c": b"three"}, seconds=60)
    assert cache.get_many([b"c", b"b", b"a", b"c"]) == [b"three", None, b"\x00one", b"three"]
    cache.put_many({b"a": b"another"}, seconds=60)
    assert cache.get_many([b"a"]) == [b"another"]


def test_an_entry_is_forgotten_after_its_time(cache: Cache) -> None:
    cache.put_many({b"a": b"x"}, seconds=1)
    cache.put_many({b"b": b"x"}, seconds=60)
    deadline = time.monotonic() + 30
    while cache.get_many([b"a"]) != [None] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cache.get_many([b"a", b"b"]) == [None, b"x"]


def test_a_password_is_the_environments_or_a_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_process("--requirepass", "open sesame") as uri:
        settings = CacheSettings(uri=uri)
        with pytest.raises(Transient, match="Authentication"):
            RedisCache(settings).get_many([b"a"])
        monkeypatch.setenv("REDIS_PASSWORD", "open sesame")
        assert RedisCache(settings).get_many([b"a"]) == [None]
        monkeypatch.delenv("REDIS_PASSWORD")
        provide_password(uri, "open sesame")
        assert RedisCache(settings).get_many([b"a"]) == [None]


def test_a_server_without_room_and_one_that_is_not_there_are_passing_faults() -> None:
    with redis_process("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as uri:
        cache = RedisCache(CacheSettings(uri=uri))
        with pytest.raises(Transient, match="memory"):
            cache.put_many({b"%d" % n: bytes(100_000) for n in range(30)}, seconds=60)
    (port,) = free_ports(1)
    with pytest.raises(Transient):
        RedisCache(CacheSettings(uri=f"redis://127.0.0.1:{port}/0")).get_many([b"a"])


@pytest.mark.parametrize("uri", ["redis://user:secret@host:6379/0", "http://host", "host:6379", "redis://"])
def test_a_uri_that_holds_a_password_or_is_no_redis_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        CacheSettings(uri=uri)
