"""The in-memory twin of a Milvus collection, for tests and trial jobs. It has no filter expressions."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.adapters.rows.collection_rows import columns_of, rows_for, upsert_vectors
from tasks.adapters.rows.comparison import StoredRows, compare_rows
from tasks.adapters.rows.row_schema import ARROW_TYPES
from tasks.adapters.rows.vectors.sparse_vectors import is_sparse, products, stacked
from tasks.adapters.rows.vectors.vector_types import rounded
from tasks.adapters.targets.bm25 import Bm25
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.ports import Target
from tasks.domain.shards.import_attempt import ImportState
from tasks.domain.target.collection import CollectionSpec, Hit, check_same, index_to_build, new_identity
from tasks.domain.target.difference import Compared
from tasks.domain.target.full_text import CANDIDATES, Fusion, fuse
from tasks.domain.target.rate_limit import Throttle


@dataclass
class MemoryServer:
    """The contents of one memory://name, for the lifetime of the process."""

    specs: dict[str, CollectionSpec] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    aliases: dict[str, str] = field(default_factory=dict)
    staged: dict[str, pa.Table] = field(default_factory=dict)
    jobs: dict[str, ImportState] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


memory_servers: dict[str, MemoryServer] = defaultdict(MemoryServer)


class MemoryCollection:
    """See `tasks.domain.ports.Collection` for the contract."""

    def __init__(self, target: Target, server: MemoryServer, name: str) -> None:
        self.target, self.name = target, name
        self._server, self._at, self.throttle = server, target.address, Throttle()

    def describe(self) -> CollectionSpec | None:
        return self._server.specs.get(self.name)

    def check(self, spec: CollectionSpec) -> CollectionSpec | None:
        self.target.reach(spec.alias)
        existing = self.describe()
        if existing is not None:
            check_same(existing, spec, self._at)
        return existing

    def identity(self) -> str | None:
        return self._server.identities.get(self.name)

    def ensure(self, spec: CollectionSpec) -> str:
        with self._server.lock:
            if self.check(spec) is None:
                self._server.specs[self.name] = spec
                self._server.identities[self.name] = new_identity()
            return self._server.identities[self.name]

    def _made(self) -> CollectionSpec:
        spec = self.describe()
        if spec is None:
            raise BadInput(
                f"collection '{self.name}' does not exist at {self._at}: load it first with `kitestring run` or `kitestring replay`"
            )
        return spec

    @property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return self._server.rows[self.name]

    def upsert(self, rows: pa.Table) -> int:
        spec = self._made()
        rows, cut = rows_for(spec, rows)
        ids = rows["id"].to_pylist()
        if len(set(ids)) < len(ids):
            raise Permanent("a key occurs twice in one batch: rows must be deduplicated before loading")
        vectors = rounded(upsert_vectors(rows, spec.dim), spec.vector_type)
        values = {name: vectors if kind is None else rows[name].to_pylist() for name, kind in columns_of(spec).items()}
        dicts = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        with self._server.lock:
            self._rows.update(zip(ids, dicts, strict=True))
        return cut

    def updates_fields(self) -> bool:
        return self._made().partition_key is None and not self._made().full_text

    def upsert_fields(self, rows: pa.Table) -> int:
        spec = self._made()
        rows, cut = rows_for(spec, rows)
        with self._server.lock:
            absent = [key for key in rows["id"].to_pylist() if key not in self._rows]
            if absent:
                raise Permanent(f"key '{absent[0]}' is not in '{self.name}', and its row has no vector")
            for row in rows.drop_columns("vector").to_pylist():
                self._rows[row["id"]] = self._rows[row["id"]] | row
        return cut

    def reindex(self, spec: CollectionSpec) -> str | None:
        current = self._made()
        self._server.specs[self.name] = current.model_copy(update={"index": spec.index})
        return index_to_build(current, spec)

    def flush_and_index(self) -> None:
        self._made()

    def _of(self, shard: str | None) -> list[str]:
        self._made()
        with self._server.lock:
            return [key for key, row in self._rows.items() if shard is None or row["shard"] == shard]

    def count(self, shard: str | None = None) -> int:
        return len(self._of(shard))

    def keys(self, shard: str) -> Iterator[str]:
        return iter(self._of(shard))

    def fetch(self, keys: list[str]) -> tuple[list[str], np.ndarray]:
        dim = self._made().dim
        with self._server.lock:
            vectors = {key: self._rows[key]["vector"] for key in dict.fromkeys(keys) if key in self._rows}
        return list(vectors), stacked(list(vectors.values()), dim, sparse=self._made().sparse)

    def shards_of(self, keys: list[str]) -> dict[str, str]:
        with self._server.lock:
            return {key: self._rows[key]["shard"] for key in keys if key in self._rows}

    def values_of(self, keys: list[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        with self._server.lock:
            return {key: {name: self._rows[key][name] for name in fields} for key in keys if key in self._rows}

    def count_beyond(self, known: Iterable[str]) -> int:
        return len(list(self.strangers(known)))

    def strangers(self, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        self._made()
        known_shards = set(known)
        with self._server.lock:
            others = [(key, row["shard"]) for key, row in self._rows.items() if row["shard"] not in known_shards]
        return iter(others)

    def compare(self, rows: pa.Table, *, doubled: bool = True) -> Compared:  # noqa: ARG002 - keys are unique here
        spec, (sent, _) = self._made(), rows_for(self._made(), rows)
        with self._server.lock:
            rows_there = [self._rows[key] for key in sent["id"].to_pylist() if key in self._rows]
        fields = {name: kind for name, kind in columns_of(spec).items() if kind is not None}
        stored = StoredRows(
            keys=[row["id"] for row in rows_there],
            vectors=stacked([row["vector"] for row in rows_there], spec.dim, sparse=spec.sparse),
            fields={name: pa.array([row[name] for row in rows_there], ARROW_TYPES[kind]) for name, kind in fields.items()},
        )
        return compare_rows(sent, stored, columns_of(spec), spec.vector_type)

    def search(
        self,
        vectors: np.ndarray,
        k: int,
        *,
        expression: str = "",
        fields: Iterable[str] = (),
        one_of_each: str | None = None,  # noqa: ARG002 - it does not group hits
    ) -> list[list[Hit]]:
        if expression:
            raise BadInput("a filter needs a Milvus server or a Milvus Lite file: memory:// has none")
        spec, names = self._made(), list(fields)
        with self._server.lock:
            rows = list(self._rows.values())
        if not rows:
            return [[] for _ in vectors]
        queries = rounded(vectors if spec.sparse else np.asarray(vectors, np.float32), spec.vector_type)
        scores = score(queries, stacked([row["vector"] for row in rows], spec.dim, sparse=spec.sparse), spec.metric)
        nearest = np.argsort(scores if spec.metric == "L2" else -scores, axis=1, kind="stable")[:, :k]
        return [[self._hit(rows[i], scores[q, i], names) for i in best] for q, best in enumerate(nearest)]

    def search_text(self, texts: Sequence[str], k: int, *, expression: str = "", fields: Iterable[str] = ()) -> list[list[Hit]]:
        if expression:
            raise BadInput("a filter needs a Milvus server or a Milvus Lite file: memory:// has none")
        self._made()
        with self._server.lock:
            rows = dict(self._rows)
        index, names = Bm25({key: row["text"] or "" for key, row in rows.items()}), list(fields)
        return [[self._hit(rows[key], value, names) for key, value in index.search(text, k)] for text in texts]

    def search_hybrid(
        self, vectors: np.ndarray, texts: Sequence[str], k: int, fusion: Fusion, *, expression: str = "", fields: Iterable[str] = ()
    ) -> list[list[Hit]]:
        options: dict[str, Any] = {"k": max(k, CANDIDATES), "expression": expression, "fields": list(fields)}
        metrics, answers = (self._made().metric, "BM25"), []
        for nearest, best in zip(self.search(vectors, **options), self.search_text(texts, **options), strict=True):
            sides = [[(hit.id, hit.score) for hit in side] for side in (nearest, best)]
            hits = {hit.id: hit for hit in [*nearest, *best]}
            answers.append([hits[key].model_copy(update={"score": value}) for key, value in fuse(sides, metrics, fusion, k)])
        return answers

    def found_by_words(self, texts: Mapping[str, str]) -> set[str]:
        self._made()
        with self._server.lock:
            index = Bm25({key: self._rows[key]["text"] or "" for key in texts if key in self._rows})
        return {key for key, text in texts.items() if key in dict(index.search(text, len(texts)))}

    def lost(self) -> list[str]:
        return []

    @staticmethod
    def _hit(row: dict[str, Any], value: float, names: list[str]) -> Hit:
        return Hit(id=row["id"], score=float(value), fields={name: row[name] for name in names})

    def delete_shard(self, shard: str) -> None:
        for key in self._of(shard):
            self._rows.pop(key, None)

    def delete_keys(self, keys: list[str]) -> None:
        for key in keys:
            self._rows.pop(key, None)


def score(queries: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Exact scores of shape (queries, vectors), as Milvus computes them: L2 is the squared distance, sparse vectors use the inner product."""
    if is_sparse(vectors):
        return products(queries, vectors)
    if metric == "L2":
        left, right = queries.astype(np.float64), vectors.astype(np.float64)
        squares: np.ndarray = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        squares[squares < 0] = 0  # rounding
        return squares
    if metric == "COSINE":
        queries, vectors = _unit(queries), _unit(vectors)
    inner: np.ndarray = queries @ vectors.T
    return inner


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths == 0, 1, lengths)
    return unit
