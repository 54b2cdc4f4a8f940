"""A source's rows as a test wants to see them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.adapters.rows.builder import Prepared, prepare
from tasks.adapters.sources.registry import open_source
from tasks.domain.job.job import Job
from tasks.domain.shards.shard import Shard, Span, name_shard
from tasks.run.metadata_fields import settle_fields

IMAGE_ENCODER = {"kind": "open-clip"}


def make_job(kind: str, uri: object, *, rows: int = 50_000, on_duplicate: str = "refuse", **columns: Any) -> Job:
    """A job with the encoder that the source asks for."""
    pictures = kind == "images" or "image" in columns or (kind == "webdataset" and columns.get("embed") != "text")
    return Job(
        source={"kind": kind, "uri": str(uri), **columns},
        encoder=IMAGE_ENCODER if pictures else {},
        shards={"rows": rows},
        failures={"on_duplicate": on_duplicate},
    )


def spans_of(job: Job) -> list[Span]:
    return list(open_source(job.source, rows=job.shards.rows).spans())


def shard_of(span: Span) -> Shard:
    return name_shard(span, rows_as={}, fingerprint="f" * 32)


def raw(job: Job) -> list[dict[str, Any]]:
    """Every row as the source reads it, over all spans."""
    source = open_source(job.source, rows=job.shards.rows)
    return [row for span in source.spans() for batch in source.read(shard_of(span)) for row in batch.to_pylist()]


def prepared(job: Job) -> Iterator[Prepared]:
    """Every batch as the encoder gets it, over all spans, checked against the law "Accounted rows"."""
    source = open_source(job.source, rows=job.shards.rows)
    source.inspect(())  # as a run does before it reads
    fields = settle_fields(source, None)
    for span in source.spans():
        for chunk in prepare(source, shard_of(span), job=job, fields=fields):
            assert chunk.seen == chunk.batch.num_rows + len(chunk.quarantined) + chunk.duplicates
            yield chunk


def good(job: Job) -> list[dict[str, Any]]:
    """The rows that go to the encoder."""
    return [row for chunk in prepared(job) for row in chunk.batch.to_pylist()]


def aside(job: Job) -> list[tuple[int, str | None, str]]:
    """The rows that are set aside: position, key, reason."""
    return [(row.row, row.id, row.reason) for chunk in prepared(job) for row in chunk.quarantined]


def write_csv(path: Path, rows: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "n"])
        writer.writerows([i, f'line one\nline "two", of {i}\r\nthree', i * 10] for i in range(rows))
    return path
