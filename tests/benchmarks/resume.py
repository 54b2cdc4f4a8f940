"""What a run with nothing to do asks of its checkpoint, by sealed shards: in a folder, and in S3 with 30 ms to each answer.

The server is moto, on the loopback; each request waits 30 ms before it is sent. Nothing but the checkpoint is measured:
no source is listed, and no part or collection is looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.seal_cache import StreamCache
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.s3_client import connect
from tasks.adapters.object_store.s3_store import S3Store
from tasks.domain.digest import digest
from tasks.domain.ports import Store
from tasks.domain.shards.seal import EncodeStats, Loaded, Part, Seal
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tasks.run.seals.effective_seals import seals_of
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import own_folder
from tests.servers.s3 import S3Server, s3_process

COUNTS = (100, 1_000, 5_000)
WAY_SECONDS = 0.03
TARGET = "0123456789abcdef"


@dataclass(slots=True)
class Planned:
    """As much of a plan as seals are read by."""

    checkpoint: Checkpoint
    seals: StreamCache[Seal]
    shards: list[Shard] = field(default_factory=list)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)


def resume(sizes: Sizes) -> Outcome:
    """Seconds by step. `--rows`: the most shards."""
    most = sizes.rows_or(COUNTS[-1], quick=20)
    counts = [count for count in COUNTS if count <= most] or [most]
    with own_folder() as folder, s3_process() as server:
        stores = {"folder": partial(in_folder, folder), "S3 at 30 ms": partial(in_s3, server)}
        contenders = {
            f"{count:,} shards, {name}": partial(steps, fill(make, count), folder) for count in counts for name, make in stores.items()
        }
        results = compare(contenders, sizes.rounds)
    return Outcome(title="Looking at what is sealed, again", results=results, drawn="all s")


def in_folder(folder: Path, name: str, *, slow: bool) -> Store:
    return FolderStore(folder / name)


def in_s3(server: S3Server, name: str, *, slow: bool) -> Store:
    access = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    with patch.dict(os.environ, access):
        connection = connect()
    client: Any = connection.client
    if slow:
        client.meta.events.register("before-send.s3", lambda **_: time.sleep(WAY_SECONDS))
    else:
        client.create_bucket(Bucket=name)
    return S3Store(name, connection=connection)


def fill(make: Callable[..., Store], count: int) -> Callable[[Path], Planned]:
    """Seal and load so many shards; what opens them as a run does."""
    name, spans = f"sealed-{count}", [Span(files=(version(n),), extent=Whole(), rows=4) for n in range(count)]
    shards = [Shard(id=digest(span.files[0].name), span=span) for span in spans]
    filled = Checkpoint(make(name, slow=False), "bench", "fingerprint")

    def seal(shard: Shard) -> None:
        made = filled.seal(seal_of(filled, shard))
        entry = Loaded(shard=shard.id, group=shard.group, rows=4, seal=made.digest, run="r", seconds=1, loaded_at="now")
        filled.record_load(TARGET, entry)
        filled.store.write(made.parts[0].key, b"what is not read here")

    for _ in ahead(seal, shards):
        pass
    return lambda scratch: Planned(Checkpoint(make(name, slow=True), "bench", "fingerprint"), StreamCache(scratch, Seal), shards)


def version(number: int) -> FileVersion:
    return FileVersion(path=f"/rows/{number}.parquet", name=f"{number}.parquet", size=1_000, version="1")


def seal_of(checkpoint: Checkpoint, shard: Shard) -> Seal:
    stats = EncodeStats(tokens=90, encode_seconds=0.1, lengths={16: 2, 32: 2}, backend="torch")
    key = checkpoint.layout.part(shard.id, "20261121T000000-abcdef", 0, 4)
    part = Part(key=key, first=0, stop=4, rows=4, bytes=21, sha256="0" * 64, stats=stats)
    counts: dict[str, Any] = {"source_rows": 4, "embedded": 4, "duplicates": 0, "quarantined": (), "dim": 32}
    names = {"shard": shard.id, "name": shard.name, "group": shard.group, "run": "r", "attempt": "a"}
    return Seal(**names, **counts, parts=(part,), seconds=1.0, sealed_at="2026-11-21T00:00:00+00:00")


def steps(open_plan: Callable[[Path], Planned], scratch: Path) -> Mapping[str, float]:
    """As a run takes them: what is up to date; the seals for the owners, for the proof and for the report; what has to go."""
    plan: Any = open_plan(scratch)
    planned = DigestSet(shard.id for shard in plan)
    asked: dict[str, Callable[[], object]] = {
        "up to date s": lambda: plan.checkpoint.up_to_date(TARGET),
        "seals s": lambda: sum(1 for _ in seals_of(plan)),
        "seals again s": lambda: sum(1 for _ in seals_of(plan)),
        "and again s": lambda: sum(1 for _ in seals_of(plan)),
        "what has to go s": lambda: list(plan.checkpoint.loads(TARGET, but=planned)),
    }
    found: dict[str, float] = {}
    for name, ask in asked.items():
        began = time.monotonic()
        ask()
        found[name] = time.monotonic() - began
    return {**found, "all s": sum(found.values())}
