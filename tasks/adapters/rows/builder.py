"""Prepares rows of a source for the encoder: numbers, keys, joins and types them, quarantines bad rows, resolves duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.files.partitions import partitions_of
from tasks.adapters.rows.arrays import arrays
from tasks.adapters.rows.batch_findings import findings_in
from tasks.adapters.rows.content import blank_texts, join_texts, key_of, key_of_file, pictures
from tasks.adapters.rows.key_index import SeenKeys
from tasks.adapters.rows.row_schema import ARROW_TYPES, IMAGE, IMAGE_URI, KEY_COLUMN, REASON_COLUMN, TEXT_COLUMN, rows_schema
from tasks.adapters.rows.scalars import Problems, ScalarColumn, key_texts, plain, reason, scalars
from tasks.domain.errors import BadInput, KitestringError, Transient
from tasks.domain.job.job import Job
from tasks.domain.job.references import References
from tasks.domain.job.source import AnySource as Config
from tasks.domain.job.target import TargetSettings
from tasks.domain.ports import Source
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.seal import Quarantined
from tasks.domain.shards.shard import Shard
from tasks.domain.target.chunk_fields import LONGEST_NUMBER, source_fields
from tasks.domain.target.fields import ELEMENTS, SourceField


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The outcome of `seen` consecutive source rows: seen = rows in batch + quarantined + duplicates.

    If documents are split (`chunks` is set), the batch holds chunks, and a document's chunks may span several batches.
    """

    batch: pa.RecordBatch
    seen: int
    quarantined: list[Quarantined]
    duplicates: int = 0
    found: tuple[Finding, ...] = ()  # other observations from reading them
    chunks: ChunksMade | None = None

    @property
    def made(self) -> int:
        """Number of positions: rows of the source, or chunks."""
        return self.seen if self.chunks is None else self.chunks.rows

    def in_slices(self, most: int, *, begin: int) -> Iterator[Prepared]:
        """Split into batches of at most `most` rows; the first one carries all counts. `begin`: first position."""
        if self.batch.num_rows <= most:
            yield self
            return
        rows = self.batch.column("row")
        uncounted = replace(self, seen=0, quarantined=[], duplicates=0, found=(), chunks=self.chunks and ChunksMade(rows=0))
        firsts = [begin, *(rows[at].as_py() for at in range(most, len(rows), most))]
        for number, (first, stop) in enumerate(pairwise([*firsts, begin + self.made])):
            base = uncounted if number else self
            chunks = base.chunks and replace(base.chunks, rows=stop - first)
            seen = stop - first if chunks is None else base.seen
            yield replace(base, batch=self.batch.slice(number * most, most), seen=seen, chunks=chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksMade:
    """The documents that begin in a batch of chunks."""

    rows: int  # chunks in the batch
    documents: list[tuple[int, int, int]] = field(default_factory=list)  # position of the first chunk, row of the source, chunks
    overlap_tokens: int = 0


def prepare(source: Source, shard: Shard, *, job: Job, fields: tuple[SourceField, ...]) -> Iterator[Prepared]:
    """Yield a shard's rows in the form of `rows_schema`, in source order; memory is bounded by a batch.

    Raises:
        BadInput: a key occurs twice and the job refuses duplicates (names key, rows and file), or the source is invalid.
        Permanent: a file changed while it was being read.
        Transient: the source does not respond.
    """
    maker = RowMaker(job.source, shard, fields, target=job.target)
    policy = "first" if maker.hashes else job.failures.on_duplicate
    with SeenKeys() as index:
        if policy == "last":
            for chunk in maker.rows(source):
                index.replace(*_keys(chunk.batch))
        for chunk in maker.rows(source):
            yield _deduplicate(chunk, index, policy, shard)


def _deduplicate(chunk: Prepared, index: SeenKeys, policy: str, shard: Shard) -> Prepared:
    """Keep one row of each key."""
    keys, rows = _keys(chunk.batch)
    if policy == "last":
        last = index.rows_of(keys)
        surplus = [at for at, key in enumerate(keys) if last[key] != rows[at]]
    else:
        seen = index.add(keys, rows)
        for at, first in seen.items() if policy == "refuse" else ():
            raise BadInput(
                f"key '{keys[at]}' occurs twice in {shard.span.files[0].path}: rows {first} and {rows[at]} of shard {shard.name}, "
                "counted from 0: make the keys unique, or set failures.on_duplicate to first or last",
                row=first,
            )
        surplus = list(seen)
    return replace(chunk, batch=without_rows(chunk.batch, surplus), duplicates=len(surplus)) if surplus else chunk


def _keys(batch: pa.RecordBatch) -> tuple[list[str], list[int]]:
    return batch.column("id").to_pylist(), batch.column("row").to_pylist()


def without_rows(batch: pa.RecordBatch, positions: list[int]) -> pa.RecordBatch:
    """Return the batch without some of its rows."""
    keep = np.ones(batch.num_rows, dtype=bool)
    keep[positions] = False
    return batch.filter(pa.array(keep))


class RowMaker:
    """Converts one shard's batches to rows.

    Args:
        config: names the columns of key, content and metadata.
        shard: the shard to read.
        fields: the scalar fields to fill; chunk fields are skipped.
        target: limits the length of a key.
        keyed: if False, keys made from content stay null, so nothing is hashed.
    """

    def __init__(
        self, config: Config, shard: Shard, fields: tuple[SourceField, ...], *, target: TargetSettings, keyed: bool = True
    ) -> None:
        named = config.named
        self.key, self.content = (named.key, named.content) if named else (KEY_COLUMN, [TEXT_COLUMN])
        self.by_column = named is not None
        self.modality, self.fields, self.shard = config.modality, source_fields(fields), shard
        self.schema = rows_schema(config.modality, self.fields)
        self.beside = shard.span.files[0].path
        self.folders = partitions_of(shard.span.files[0])
        self.references = References(root=shard.span.files[0].root, opened=config.opened)
        self.id_length = target.id_length - (LONGEST_NUMBER if config.chunking else 0)
        self.hashes, self.keyed = self.key is None, keyed

    def rows(self, source: Source) -> Iterator[Prepared]:
        """Yield all rows in batches, both embeddable and quarantined ones."""
        first = 0
        for batch in source.read(self.shard):
            yield self._make(batch, first)
            first += batch.num_rows

    def _make(self, batch: pa.RecordBatch, first: int) -> Prepared:
        reasons = _read_failures(batch)
        columns = {name: plain(batch.schema.field(i), batch.column(i)) for i, name in enumerate(batch.schema.names)}
        keys = self._keys(columns, reasons)
        content = self._texts(columns, reasons) if self.modality == "text" else self._pictures(columns, reasons)
        metadata = [self._scalar(columns.get(field.column), field, batch.num_rows, reasons) for field in self.fields]
        if keys is None:
            keys = _content_keys(content, reasons, self.references) if self.keyed else pa.nulls(batch.num_rows, pa.string())
        rows = pa.array(np.arange(first, first + batch.num_rows))
        all_rows = pa.record_batch([rows, keys, *content, *metadata], schema=self.schema)
        quarantined = [Quarantined(row=first + at, id=keys[at].as_py(), reason=reasons[at]) for at in sorted(reasons)]
        embeddable = without_rows(all_rows, list(reasons)) if reasons else all_rows
        return Prepared(batch=embeddable, seen=batch.num_rows, quarantined=quarantined, found=findings_in(batch))

    def _keys(self, columns: dict[str, ScalarColumn], reasons: Problems) -> pa.Array | None:
        if self.key is None:
            return None
        keys, problems = key_texts(columns[self.key])
        _note(reasons, {at: reason(why, "id: ") for at, why in problems.items()})
        _mark(reasons, blank_texts(keys), "null id")
        sizes = pc.binary_length(keys)
        if (pc.max(sizes).as_py() or 0) > self.id_length:
            long = ((at, size) for at, size in enumerate(sizes.to_pylist()) if (size or 0) > self.id_length)
            _note(reasons, {at: f"id too long: {size} bytes, {self.id_length} allowed" for at, size in long})
        return keys

    def _texts(self, columns: dict[str, ScalarColumn], reasons: Problems) -> list[pa.Array]:
        joined, problems = join_texts([(name, columns[name]) for name in self.content])
        _note(reasons, problems)
        _mark(reasons, pc.is_null(joined), "empty text")
        return [joined]

    def _pictures(self, columns: dict[str, ScalarColumn], reasons: Problems) -> list[pa.Array]:
        if self.by_column:
            data, places, problems = pictures(columns[self.content[0]], self.beside, self.references)
            _note(reasons, problems)
        else:
            rows = len(columns[KEY_COLUMN].values)
            data = columns[IMAGE].values if IMAGE in columns else pa.nulls(rows, pa.large_binary())
            places = columns[IMAGE_URI].values if IMAGE_URI in columns else pa.nulls(rows, pa.string())
        _mark(reasons, pc.and_(pc.is_null(data), pc.is_null(places)), "no image")
        return [data, places]

    def _scalar(self, column: ScalarColumn | None, field: SourceField, rows: int, reasons: Problems) -> pa.Array:
        """Return a field's values; missing values come from the partition folders of the file, or are null."""
        values, problems = _values(column, field) if column else (pa.nulls(rows, ARROW_TYPES[field.type]), {})
        partition = self.folders.get(field.column)
        if partition is not None and values.null_count:
            value, wrong = _values(ScalarColumn(pa.array([partition]), json=False), field)
            missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist()
            problems = {**{at: why for why in wrong.values() for at in missing}, **problems}
            values = values if wrong else pc.if_else(values.is_null(), value[0], values)
        _note(reasons, {at: f"metadata: column '{field.column}' {why}" for at, why in problems.items()})
        return values


def _values(column: ScalarColumn, field: SourceField) -> tuple[pa.Array, Problems]:
    element = ELEMENTS.get(field.type)
    return arrays(column, element, exact=field.exact) if element else scalars(column, field.type, exact=field.exact)


def _read_failures(batch: pa.RecordBatch) -> Problems:
    """Return the rows that the source could not read, with reasons."""
    at = batch.schema.get_field_index(REASON_COLUMN)
    if at < 0 or batch.column(at).null_count == batch.num_rows:
        return {}
    return {row: reason for row, reason in enumerate(batch.column(at).to_pylist()) if reason is not None}


def _note(reasons: Problems, problems: Problems) -> None:
    """Add problems as reasons; the first reason of a row wins."""
    for at, why in problems.items():
        reasons.setdefault(at, why)


def _mark(reasons: Problems, bad: pa.Array, why: str) -> None:
    if pc.any(bad).as_py():
        _note(reasons, dict.fromkeys(np.flatnonzero(bad.to_numpy(zero_copy_only=False)).tolist(), why))


def _content_keys(content: list[pa.Array], reasons: Problems, references: References) -> pa.Array:
    keys: list[str | None] = []
    values = content[0].cast(pa.large_binary()).to_pylist()
    for at, value in enumerate(values):
        location = content[1][at].as_py() if value is None and len(content) > 1 and at not in reasons else None
        try:
            keys.append(key_of(value) if value is not None else key_of_file(location, references) if location else None)
        except Transient:  # an unresponsive store is no fault of the row
            raise
        except (KitestringError, OSError, ValueError) as error:
            reasons.setdefault(at, f"image cannot be read: {location}: {' '.join(str(error).split())[:200]}")
            keys.append(None)
    return pa.array(keys, pa.string())
