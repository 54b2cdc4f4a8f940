"""Documents as rows of chunks: numbered through the shard, keyed by document and number, with the metadata of their row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.chunking import documents as made
from tasks.adapters.rows.chunking import splitter as splitters
from tasks.adapters.rows.chunking.documents import chunk_documents
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.adapters.rows.row_schema import rows_schema
from tasks.domain.job.texts.chunks import Chunks
from tasks.domain.target.chunk_fields import CHUNK_FIELDS, chunk_key, has_chunks, source_fields, split_chunk_key
from tasks.domain.target.fields import SourceField
from tests.adapters.rows.chunking.shapes import shape

FIELDS = (SourceField(name="n", column="n", type="int64"), *CHUNK_FIELDS)
LONG = "the of and it to " * 10


@pytest.fixture
def splitter(tiny_model: Path) -> ChunkSplitter:
    return ChunkSplitter(Chunks(tokens=16), shape(tiny_model), 64)


def rows(*texts: str, first: int = 0) -> Prepared:
    numbers = list(range(first, first + len(texts)))
    columns = {"row": numbers, "id": [f"d{n}" for n in numbers], "text": list(texts), "n": [10 * n for n in numbers]}
    batch = pa.record_batch(list(map(pa.array, columns.values())), schema=rows_schema("text", FIELDS[:1]))
    return Prepared(batch=batch, seen=len(texts) + 1, quarantined=[], duplicates=1)


def chunks(splitter: ChunkSplitter, *prepared: Prepared, by_document: bool = False) -> Iterator[Prepared]:
    return chunk_documents(prepared, splitter, FIELDS, by_document=by_document)


def test_chunks_have_their_documents_key_number_place_and_metadata(splitter: ChunkSplitter) -> None:
    (first, second) = chunks(splitter, rows("the of", LONG), rows("it", first=2))
    found = [row for some in (first, second) for row in some.batch.to_pylist()]
    assert [row["row"] for row in found] == list(range(6))
    assert [row["id"] for row in found] == ["d0#0", "d1#0", "d1#1", "d1#2", "d1#3", "d2#0"]
    assert [(row["document"], row["chunk"], row["n"]) for row in found[1:5]] == [("d1", n, 10) for n in range(4)]
    assert all(LONG[row["start"] : row["end"]] == row["text"] for row in found[1:5])
    assert (first.seen, first.duplicates, second.seen) == (3, 1, 2)
    assert (first.chunks.documents, second.chunks.documents) == ([(0, 0, 1), (1, 1, 4)], [(5, 2, 1)])


def test_a_long_document_comes_in_several_batches_and_is_counted_once(splitter: ChunkSplitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "CHUNK_BATCH_ROWS", 3)
    found = list(chunks(splitter, rows("it", LONG * 3)))
    assert all(some.batch.num_rows == 3 for some in found[:-1])
    assert len(found) > 3
    assert [some.seen for some in found] == [3, *[0] * (len(found) - 1)]
    assert sum(len(some.chunks.documents) for some in found) == 2


def test_a_document_of_too_many_chunks_is_set_aside_whole(splitter: ChunkSplitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitters, "MOST_CHUNKS", 3)
    (found,) = chunks(splitter, rows("it", LONG, "of"))
    assert found.batch.column("document").to_pylist() == ["d0", "d2"]
    ((row, key, reason),) = [(aside.row, aside.id, aside.reason) for aside in found.quarantined]
    assert (row, key) == (1, "d1")
    assert reason.startswith("too many chunks: ")


def test_where_rows_are_those_of_documents_chunks_share_them(splitter: ChunkSplitter) -> None:
    (found,) = chunks(splitter, rows(LONG, "it", first=7), by_document=True)
    assert found.batch.column("row").to_pylist() == [7, 7, 7, 7, 8]


@pytest.mark.parametrize("key", ["a", "a#1", "#", "", "a#1#2"])
def test_keys_of_chunks_are_unambiguous(key: str) -> None:
    assert split_chunk_key(chunk_key(key, 12)) == (key, 12)


def test_a_column_called_chunk_makes_no_chunks() -> None:
    own = SourceField(name="chunk", column="chunk", type="int64")
    assert not has_chunks((own,))
    assert source_fields((own, *CHUNK_FIELDS)) == (own,)
