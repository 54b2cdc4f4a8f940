"""Two corpora that share half of their texts, and a cache in a real Redis: the second encodes the other half, whatever stands in the cache."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.adapters.cache.vector_cache import ENTRY_HEAD
from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.engines.local_engine import LocalEngine
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.sources.registry import open_source
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardSealed
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.parse import parse_job
from tasks.domain.served_identity import ServedIdentity, served_identity
from tasks.domain.shards.shard import name_shard
from tests.builders.engines.hash_encoders import by_hash, vectors_of_texts
from tests.builders.kitestring import make_job, text_of, write_rows
from tests.servers.milvus import free_ports
from tests.servers.redis import redis_process

ROWS = 40
LONG_MS = 60_000  # in which a batch is answered on any machine


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with redis_process() as uri:
        yield uri


@pytest.fixture
def server(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setitem(ENCODERS.known, "sentence-transformers", by_hash("sentence-transformers"))
    with redis.Redis.from_url(uri) as client:
        client.flushall()
        yield client


def embed(folder: Path, first: int, uri: str, served: ServedIdentity | None = None) -> tuple[int, int]:
    """A corpus of its own of rows from `first` on; rows encoded and rows from the cache, after looking at every vector. `served`: by this model."""
    folder.mkdir()
    write_rows(folder / "rows" / "a.parquet", first, first + ROWS)
    document: dict[str, Any] = make_job(folder, folder, checkpoint=f"memory://{secrets.token_hex(8)}", corpus=folder.name)
    job = parse_job(document | {"cache": {"uri": uri, "ttl_days": 1, "deadline_ms": LONG_MS}})
    told: list[EncodingEvent] = []
    engine = LocalEngine(EncodingSpec(run="r", job=job, fields=(), weights="w", declared="d" * 32), scratch=folder, tell=told.append)
    identity = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="float32")
    record = EncoderRecord(identity=identity, facts=engine.facts().model_copy(update={"server": served}))
    spans = open_source(job.source, rows=ROWS).spans()
    (shard,) = [name_shard(span, rows_as={}, fingerprint=identity.fingerprint) for span in spans]
    engine.encode(ShardGroup(shards=(shard,), record=record, attempt="r"))
    engine.close()
    (sealed,) = [event for event in told if isinstance(event, ShardSealed)]
    checkpoint = Checkpoint(open_store(job.checkpoint), job.corpus, identity.fingerprint)
    rows = {row["id"]: row["vector"] for part in sealed.seal.parts for row in checkpoint.sealed_part(part).to_pylist()}
    right = vectors_of_texts([text_of(row) for row in range(first, first + ROWS)]).tolist()
    assert rows == {f"row-{first + at}": vector for at, vector in enumerate(right)}
    assert (sealed.seal.cached, sealed.seal.format_version) == (sealed.cached, 4 if sealed.cached else 3)
    return sealed.encoded, sealed.cached


def test_the_second_corpus_encodes_only_what_the_first_one_had_not(server: redis.Redis, uri: str, tmp_path: Path) -> None:
    assert embed(tmp_path / "one", 0, uri) == (ROWS, 0)
    assert server.dbsize() == ROWS
    assert 0 < server.ttl(server.randomkey()) <= 86_400
    assert embed(tmp_path / "two", ROWS // 2, uri) == (ROWS // 2, ROWS // 2)
    assert embed(tmp_path / "three", ROWS // 2, uri) == (0, ROWS)


def test_two_servers_whose_models_have_one_name_share_no_vector(server: redis.Redis, uri: str, tmp_path: Path) -> None:
    """Their fingerprint is the name's: a server of text-embeddings-inference has one model, and the job need not name it."""
    one, other = (served_identity({"model": name}, [[1.0, 0.0]]) for name in ("bge", "e5"))
    assert embed(tmp_path / "one", 0, uri, one) == (ROWS, 0)
    assert embed(tmp_path / "two", 0, uri, other) == (ROWS, 0)
    assert embed(tmp_path / "three", 0, uri, one) == (0, ROWS)
    assert server.dbsize() == 2 * ROWS


def test_poisoned_entries_change_nothing(server: redis.Redis, uri: str, tmp_path: Path) -> None:
    """Short, of another key, bits turned, something else altogether; every one is a miss, and is put right by the run that found it."""
    embed(tmp_path / "one", 0, uri)
    values = {key: server.get(key) for key in sorted(server.keys())}
    for at, (key, value) in enumerate(values.items()):
        other = list(values.values())[at - 1]
        flipped = value[: ENTRY_HEAD.size + at] + bytes([value[ENTRY_HEAD.size + at] ^ 1]) + value[ENTRY_HEAD.size + at + 1 :]
        server.set(key, [value[:-1], other, flipped, b"\x00" * len(value), b""][at % 5])
    assert embed(tmp_path / "two", 0, uri) == (ROWS, 0)
    assert {key: server.get(key) for key in values} == values


def test_a_cache_that_is_not_there_costs_no_row(server: redis.Redis, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    assert embed(tmp_path / "one", 0, f"redis://127.0.0.1:{port}/0") == (ROWS, 0)
