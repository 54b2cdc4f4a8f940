"""Reads and deletions in a Milvus collection: strongly consistent, paged, safe for any key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.filters import among, beyond, equals, keys_in_pages
from tasks.adapters.milvus.protobuf import query_rows, stub_of
from tasks.adapters.milvus.row_dicts import as_stored_rows, as_vector, fit_fields
from tasks.adapters.rows.collection_rows import batches, columns_of, rows_for
from tasks.adapters.rows.comparison import StoredRows, compare_rows
from tasks.adapters.rows.vectors.sparse_vectors import stacked
from tasks.domain.errors import Permanent, Transient
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.difference import Compared, Difference

V = TypeVar("V")

ANSWER_BYTES = 16 * 2**20  # most bytes of one answer with vectors; gRPC's limit is 64 MB
COMPARED_ROWS = 4_000  # in one query: each waits some 0.2 s for the server's clock
ASKED_KEYS = 1_000
SETTLE_TRIES = 20
COUNTS_AT_ONCE = 8


class Reading:
    """The part of `tasks.adapters.milvus.milvus_collection.MilvusCollection` that reads and deletes."""

    name: str
    _connection: Connection
    _call: Callable[..., Any]
    _at: str
    _columns: bool
    _nullable: frozenset[str]
    _lock: threading.RLock

    def _ready(self) -> CollectionSpec:
        raise NotImplementedError

    def count(self, shard: str | None = None) -> int:
        self._ready()
        return self._count("" if shard is None else equals("shard", shard))

    def _count(self, where: str) -> int:
        return int(self._query(where, ["count(*)"])[0]["count(*)"])

    def keys(self, shard: str) -> Iterator[str]:
        self._ready()

        def page(where: str, limit: int) -> list[str]:
            return [row["id"] for row in self._query(where, ["id"], limit=limit)]

        return keys_in_pages(page, equals("shard", shard), count=self._count)

    def fetch(self, keys: list[str]) -> tuple[list[str], np.ndarray]:
        spec = self._ready()
        dim = spec.dim
        vectors: dict[str, Any] = {}

        def ask(some: list[str]) -> dict[str, Any]:
            return {row["id"]: as_vector(row["vector"], spec.vector_type) for row in self._query(among("id", some), ["id", "vector"])}

        for some in chunks(list(dict.fromkeys(keys)), max(1, min(ASKED_KEYS, ANSWER_BYTES // (4 * dim)))):
            vectors |= all_of(some, ask)
        order = [key for key in dict.fromkeys(keys) if key in vectors]
        return order, stacked([vectors[key] for key in order], dim, sparse=spec.sparse)

    def shards_of(self, keys: list[str]) -> dict[str, str]:
        return {key: str(values["shard"]) for key, values in self._values_of(keys, ["shard"], at_once=COMPARED_ROWS).items()}

    def values_of(self, keys: list[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        return self._values_of(keys, fields, at_once=ASKED_KEYS)

    def _values_of(self, keys: list[str], fields: Sequence[str], *, at_once: int) -> dict[str, dict[str, object]]:
        self._ready()
        values: dict[str, dict[str, object]] = {}

        def ask(some: list[str]) -> dict[str, dict[str, object]]:
            rows = self._query(among("id", some), ["id", *fields])
            return {row["id"]: {name: row[name] for name in fields} for row in rows}

        for some in chunks(list(dict.fromkeys(keys)), at_once):
            values |= all_of(some, ask)
        return values

    def count_beyond(self, known: Iterable[str]) -> int:
        self._ready()
        return sum(ahead(self._count, beyond("shard", known), at_once=COUNTS_AT_ONCE))

    def strangers(self, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        self._ready()
        shards: dict[str, str] = {}

        def page(where: str, limit: int) -> list[str]:
            rows = self._query(where, ["id", "shard"], limit=limit)
            shards.update((row["id"], row["shard"]) for row in rows)
            return [row["id"] for row in rows]

        for where in beyond("shard", known):
            for key in keys_in_pages(page, where, count=self._count) if self._count(where) else ():
                yield key, shards.pop(key)
            shards.clear()

    # ---- compared ----

    def _as_sent(self, rows: pa.Table, spec: CollectionSpec) -> tuple[pa.Table, int]:
        """Rows as an upsert sends them, and how many of their texts were cut."""
        rows, cut = rows_for(spec, rows)
        return fit_fields(rows, columns_of(spec), self._nullable, lite=self._connection.lite), cut

    def compare(self, rows: pa.Table, *, doubled: bool = True) -> Compared:
        spec = self._ready()
        sent, _ = self._as_sent(rows, spec)
        some = batches(sent, columns_of(spec), most_rows=COMPARED_ROWS, most_bytes=ANSWER_BYTES)
        return sum((self._compare(batch, spec, doubled=doubled) for batch in some), Compared(rows=0))

    def _compare(self, sent: pa.Table, spec: CollectionSpec, *, doubled: bool) -> Compared:
        keys = sent["id"].to_pylist()
        try:
            stored = self._stored(keys, spec)
        except Permanent:  # stored rows may be larger than when they were sent, and a response has a size limit
            if len(keys) == 1:
                raise
            half = len(keys) // 2
            return self._compare(sent.slice(0, half), spec, doubled=doubled) + self._compare(sent.slice(half), spec, doubled=doubled)
        while missing := set(keys).difference(stored.keys) if stored.keys else ():
            more = self._stored(list(missing), spec)
            if not more.keys:
                break
            stored += more
        compared = compare_rows(sent, stored, columns_of(spec), spec.vector_type, lite=self._connection.lite)
        if not doubled:
            return compared
        shards = dict(zip(keys, sent["shard"].to_pylist(), strict=True))
        twice = tuple(
            Difference(key=key, kind="doubled", shard=shards[key], told=f"{rows} rows") for key, rows in self._doubled(stored.keys)
        )
        return compared.model_copy(update={"differences": compared.differences + twice})

    def _stored(self, keys: list[str], spec: CollectionSpec) -> StoredRows:
        columns = columns_of(spec)
        if not self._columns or stub_of(self._connection.client) is None:
            rows = self._query(among("id", keys), list(columns))
            return as_stored_rows(rows, columns, spec.vector_type, dim=spec.dim, sparse=spec.sparse)

        def ask() -> StoredRows:
            return query_rows(
                stub_of(self._connection.client),
                self.name,
                among("id", keys),
                columns,
                spec.vector_type,
                dim=spec.dim,
                sparse=spec.sparse,
                database=self._connection.database,
                timeout=CALL_SECONDS,
            )

        stored: StoredRows = self._call(ask, f"reading '{self.name}'")
        return stored

    def _doubled(self, keys: list[str]) -> Iterator[tuple[str, int]]:
        """Keys that occur more than once, with their counts: a query returns each key once, but counts all rows (2.3.5)."""
        rows = self._count(among("id", keys)) if keys else 0
        if rows <= len(keys):
            return
        if len(keys) == 1:
            yield keys[0], rows
            return
        half = len(keys) // 2
        yield from self._doubled(keys[:half])
        yield from self._doubled(keys[half:])

    # ---- removed ----

    def delete_shard(self, shard: str) -> None:
        self._ready()
        self._delete(equals("shard", shard), f"shard {shard}")

    def delete_keys(self, keys: list[str]) -> None:
        self._ready()
        for some in chunks(keys, ASKED_KEYS):
            self._delete(among("id", some), f"{len(some)} keys")

    def _delete(self, where: str, what: str) -> None:
        delete = partial(self._erase, where)
        for _ in range(SETTLE_TRIES):
            self._call(delete, f"deleting {what} from '{self.name}'", writes=True)
            if self._count(where) == 0:
                return
            self._connection.patience.sleep(self._connection.patience.first)
        raise Transient(f"deleting {what} from '{self.name}' at {self._at}: rows are still found")

    def _erase(self, where: str) -> Any:
        return self._connection.client.delete(self.name, filter=where, timeout=CALL_SECONDS)

    def _query(self, where: str, fields: list[str], *, seconds: float | None = None, **options: Any) -> list[dict[str, Any]]:
        timeout = seconds or CALL_SECONDS

        def ask() -> list[dict[str, Any]]:
            client = self._connection.client
            return list(client.query(self.name, filter=where, output_fields=fields, consistency_level="Strong", timeout=timeout, **options))

        rows: list[dict[str, Any]] = self._call(ask, f"reading '{self.name}'")
        return rows


def chunks(values: Any, size: int) -> Iterator[Any]:
    """Slices of at most `size` values."""
    for first in range(0, len(values), size):
        yield values[first : first + size]


def all_of(keys: list[str], ask: Callable[[list[str]], dict[str, V]]) -> dict[str, V]:
    """Query until no key is missing. A query by keys returns at most as many rows as keys: duplicates displace other keys (2.3.5)."""
    answers: dict[str, V] = {}
    while missing := [key for key in keys if key not in answers]:
        more = ask(missing)
        answers |= more
        if not more:
            break
    return answers
