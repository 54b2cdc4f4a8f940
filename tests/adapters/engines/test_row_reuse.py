"""Rows get vectors put beside them by few at a time, however long the batches of their source are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.reuse.content_index import vector_lists
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.engines import row_reuse
from tasks.adapters.engines.row_reuse import noting_content
from tasks.adapters.rows.builder import ChunksMade, Prepared
from tasks.adapters.rows.pieces import Tally, cut_pieces
from tasks.adapters.rows.row_schema import TAKEN_VECTOR
from tasks.domain.shards.seal import Quarantined
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tests.builders.checkpoints import SHARD

FILE = FileVersion(path="/rows/docs.parquet", name="docs.parquet", size=1, version="1")
OURS = Shard(id=SHARD, span=Span(files=(FILE,), extent=Whole(), rows=100))
ASIDE = (0, 9, 10, 49, 50, 99)
DIM = 4


class EveryVector:
    """An index that has the vector of all content; notes how many rows were asked for."""

    vector_bytes = 4 * DIM

    def __init__(self) -> None:
        self.asked: list[int] = []

    def taken(self, digests: pa.Array) -> tuple[pa.Array, np.ndarray]:
        self.asked.append(len(digests))
        vectors = np.array([list(digest[:DIM]) for digest in digests.to_pylist()], np.float32)
        return vector_lists(vectors, np.ones(len(digests), dtype=bool)), np.full((len(digests), 2), -1, np.int32)


def prepared() -> Iterator[Prepared]:
    """A hundred rows in two batches, of which some were set aside, and one more is a duplicate."""
    for begin in (0, 50):
        rows = [row for row in range(begin, begin + 50) if row not in (*ASIDE, 20)]
        batch = pa.record_batch(
            {"row": pa.array(rows, pa.int64()), "id": [f"id {row}" for row in rows], "text": [f"{row}" for row in rows]}
        )
        aside = [Quarantined(row=row, id=None, reason="empty text") for row in ASIDE if begin <= row < begin + 50]
        yield Prepared(batch=batch, seen=50, quarantined=aside, duplicates=50 - len(rows) - len(aside))


def chunked() -> Iterator[Prepared]:
    """The same positions as chunks of documents of ten."""
    for chunk in prepared():
        first = chunk.batch.column("row")[0].as_py()
        documents = [(at, at // 10, 10) for at in range(first - first % 50, first - first % 50 + 50, 10)]
        yield replace(chunk, seen=5, duplicates=0, chunks=ChunksMade(rows=50, documents=documents, overlap_tokens=3))


def cut(folder: Path, rows: Iterator[Prepared], index: Any, covered: list[tuple[int, int]]) -> tuple[Any, ...]:
    tally, digests = Tally(), DigestFile(folder / "digests")
    pieces = cut_pieces(noting_content(rows, OURS, digests, index), tally, covered=covered, piece_rows=lambda: 1_000)
    held: list[Any] = [(p.first, p.stop, [row for b in p.batches for row in b.select(["row", TAKEN_VECTOR]).to_pylist()]) for p in pieces]
    digests.drop()
    return held, tally.seen, tally.made, tally.documents, tally.duplicates, tally.quarantined, tally.found.all()


@pytest.mark.parametrize("rows", [prepared, chunked])
@pytest.mark.parametrize("covered", [[], [(0, 13), (47, 60)]])
def test_rows_with_vectors_come_by_few_and_are_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any, covered: list[tuple[int, int]]
) -> None:
    whole, few = EveryVector(), EveryVector()
    expected = cut(tmp_path, rows(), whole, covered)
    monkeypatch.setattr(row_reuse, "VECTORS_AT_ONCE", 4 * DIM * 7)
    assert cut(tmp_path, rows(), few, covered) == expected
    assert max(whole.asked) > 40
    assert max(few.asked) == 7
    assert sum(few.asked) == sum(whole.asked) == 93
