"""A checkpoint of one corpus, and what is put into it: parts, seals, entries of the ledger."""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import PartMeta, part_of, read_part, vector_column, write_part
from tasks.adapters.rows.row_schema import part_schema
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.seal import EncodeStats, Loaded, Part, Quarantined, Seal
from tasks.domain.target.fields import ScalarField

FIELDS = (
    ScalarField(name="url", column="url", type="varchar"),
    ScalarField(name="n", column="n", type="int64"),
    ScalarField(name="tags", column="tags", type="varchar[]"),
)
META = PartMeta(
    shard="ab" * 16,
    first=100,
    stop=1_101,
    quarantined=(Quarantined(row=100, id='q"\n', reason="empty: no text"),),
    stats=EncodeStats(tokens=9, lengths={32: 7, 64: 2}, backend="torch"),
)


def make_table(rows: int, dim: int = 16) -> pa.Table:
    vectors = np.random.default_rng(0).standard_normal((rows, dim), np.float32)
    columns = {
        "id": pa.array([f"id {n}" for n in range(rows)], pa.string()),
        "vector": vector_column(vectors),
        "text": pa.array([f"text {n}" for n in range(rows)], pa.string()),
        "url": pa.array([None if n % 3 else "https://example.org" for n in range(rows)], pa.string()),
        "n": pa.array(range(rows), pa.int64()),
        "tags": pa.array([[["a", ""], [], None][n % 3] for n in range(rows)], pa.list_(pa.string())),
        "shard": pa.array(["ab" * 16] * rows, pa.string()),
    }
    return pa.table(columns, schema=part_schema(FIELDS, store_text=True))


IDENTITY = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={"prompt": None}, precision="float32")
FACTS = EncoderFacts(dim=16, max_seq_length=256, precision="float32", device="cpu")
RECORD = EncoderRecord(identity=IDENTITY, facts=FACTS)
SHARD = digest("a shard")
TARGET = "0123456789abcdef"


def put_part(
    checkpoint: Checkpoint, folder: Path, first: int, stop: int, *, attempt: str = "a", shard: str = SHARD, aside: int = 0
) -> Part:
    """A part as a rank puts it: all rows of its range, less the first `aside`."""
    rows = tuple(Quarantined(row=first + n, id=None, reason="empty: no text") for n in range(aside))
    meta = META.model_copy(update={"shard": shard, "first": first, "stop": stop, "quarantined": rows})
    key = checkpoint.layout.part(shard, attempt, first, stop)
    path = folder / secrets.token_hex(8)
    write_part(path, make_table(stop - first - aside), meta)
    checkpoint.store.write(key, path)
    data = path.read_bytes()
    return part_of(key, data, *read_part(data))


def seal_of(*parts: Part, shard: str = SHARD, run: str = "run-1") -> Seal:
    aside = tuple(row for part in parts for row in part.quarantined)
    rows = sum(part.rows for part in parts)
    return Seal(
        shard=shard,
        name="docs.parquet",
        group="docs.parquet",
        run=run,
        attempt="a",
        dim=16,
        source_rows=rows + len(aside),
        embedded=rows,
        duplicates=0,
        quarantined=aside,
        parts=parts,
        seconds=1.5,
        sealed_at="2026-11-21T00:00:00+00:00",
    )


def loaded(seal: Seal) -> Loaded:
    return Loaded(
        shard=seal.shard, group=seal.group, rows=seal.embedded, seal=seal.digest, run="r", seconds=1, loaded_at="2026-11-21T00:00:00+00:00"
    )


def nothing_recovered(shard: str, number: int = 1) -> Amendment:
    still = (Quarantined(row=0, id=None, reason="still empty"),)
    return Amendment(
        shard=shard, number=number, run="r2", parts=(), recovered=(), quarantined=still, seconds=1, amended_at="2026-11-22T00:00:00+00:00"
    )


NOW = dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC)


def snapshot(**changes: Any) -> Snapshot:
    """A run that encodes."""
    usual: dict[str, Any] = dict.fromkeys(("reused", "encoded", "tokens", "loaded", "shards", "shards_sealed", "shards_loaded"), 0)
    given: dict[str, Any] = {"stage": "encode", "seconds": 1.0, "total": None, "shards_failed": 0}
    return Snapshot(**(usual | given | changes))


def live_run(run: str, **changes: Any) -> LiveRun:
    """It was heard of just now."""
    usual = {"run": run, "flow": "embed-corpus", "machine": "here", "began": NOW, "at": NOW, "snapshot": snapshot()}
    return LiveRun.model_validate(usual | changes)
