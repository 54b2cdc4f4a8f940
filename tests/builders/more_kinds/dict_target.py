"""A kind of target that nobody knows of but the tests that register it: collections are dicts, gone with the process.

What a second kind takes is this file, and the line that puts `KIND` into `tasks.domain.job.target.TARGETS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tasks.adapters.rows.collection_rows import columns_of, rows_for, upsert_vectors
from tasks.adapters.rows.comparison import StoredRows, compare_rows
from tasks.adapters.rows.row_schema import ARROW_TYPES
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.target import TargetKind, TargetSettings
from tasks.domain.target.collection import CollectionSpec, Hit, check_same, index_to_build, new_identity
from tasks.domain.target.difference import Compared
from tasks.domain.target.rate_limit import Throttle


class DictSettings(TargetSettings):
    """Its own is a name alone."""

    kind: Literal["dict"] = "dict"
    shelf: str = "tests"

    @property
    def address(self) -> str:
        return f"shelf '{self.shelf}'"


@dataclass
class Kept:
    """A collection that was made."""

    spec: CollectionSpec
    identity: str = field(default_factory=new_identity)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Shelf:
    """Collections by name, and what each alias leads to."""

    kept: dict[str, Kept] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


SHELVES: dict[str, Shelf] = {}


class DictTarget:
    """See `tasks.domain.ports.Target` for the promises."""

    overcounts = False

    def __init__(self, shelf: str) -> None:
        self.address, self.shelf = f"shelf '{shelf}'", SHELVES.setdefault(shelf, Shelf())

    def reach(self, alias: str) -> None:
        if alias in self.shelf.kept:
            raise BadInput(f"target.collection '{alias}' at {self.address} is a collection: choose another target.collection")

    def check(self, spec: CollectionSpec) -> None:
        if spec.vector_type != "float32":
            raise BadInput(f"target.vector_type: a dict holds no {spec.vector_type}")

    def collection(self, name: str) -> DictCollection:
        return DictCollection(self, name)

    def names(self) -> list[str]:
        return list(self.shelf.kept)

    def drop(self, name: str) -> bool:
        return name not in self.shelf.aliases.values() and self.shelf.kept.pop(name, None) is not None

    def resolve(self, alias: str) -> str | None:
        return self.shelf.aliases.get(alias)

    def point(self, alias: str, collection: str) -> None:
        self.reach(alias)
        if collection not in self.shelf.kept:
            raise Permanent(f"pointing alias '{alias}' to '{collection}' at {self.address}: there is none")
        self.shelf.aliases[alias] = collection

    def bulk_loader(self) -> None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""


class DictCollection:
    """See `tasks.domain.ports.Collection` for the promises."""

    def __init__(self, target: DictTarget, name: str) -> None:
        self.target, self.name, self.throttle = target, name, Throttle()

    def describe(self) -> CollectionSpec | None:
        kept = self.target.shelf.kept.get(self.name)
        return kept.spec if kept else None

    def check(self, spec: CollectionSpec) -> CollectionSpec | None:
        self.target.reach(spec.alias)
        self.target.check(spec)
        there = self.describe()
        if there is not None:
            check_same(there, spec, self.target.address)
        return there

    def identity(self) -> str | None:
        kept = self.target.shelf.kept.get(self.name)
        return kept.identity if kept else None

    def ensure(self, spec: CollectionSpec) -> str:
        self.check(spec)
        return self.target.shelf.kept.setdefault(self.name, Kept(spec)).identity

    @property
    def _kept(self) -> Kept:
        kept = self.target.shelf.kept.get(self.name)
        if kept is None:
            raise BadInput(f"collection '{self.name}' is not at {self.target.address}: load it first")
        return kept

    def upsert(self, rows: pa.Table) -> int:
        kept = self._kept
        sent, cut = rows_for(kept.spec, rows)
        if len(set(sent["id"].to_pylist())) < sent.num_rows:
            raise Permanent("a key occurs twice in one batch")
        vectors = upsert_vectors(sent, kept.spec.dim)
        for row, vector in zip(sent.to_pylist(), vectors, strict=True):
            kept.rows[row["id"]] = {**row, "vector": vector}
        return cut

    def updates_fields(self) -> bool:
        return False

    def upsert_fields(self, rows: pa.Table) -> int:
        raise NotImplementedError

    def reindex(self, spec: CollectionSpec) -> str | None:
        there, self._kept.spec = self._kept.spec, spec
        return index_to_build(there, spec)

    def flush_and_index(self) -> None:
        _ = self._kept

    def _keys(self, shard: str | None) -> list[str]:
        return [key for key, row in list(self._kept.rows.items()) if shard is None or row["shard"] == shard]

    def count(self, shard: str | None = None) -> int:
        return len(self._keys(shard))

    def keys(self, shard: str) -> Iterator[str]:
        return iter(self._keys(shard))

    def fetch(self, keys: list[str]) -> tuple[list[str], np.ndarray]:
        found = [key for key in dict.fromkeys(keys) if key in self._kept.rows]
        vectors = [self._kept.rows[key]["vector"] for key in found]
        return found, np.stack(vectors) if vectors else np.empty((0, self._kept.spec.dim), np.float32)

    def shards_of(self, keys: list[str]) -> dict[str, str]:
        return {key: self._kept.rows[key]["shard"] for key in keys if key in self._kept.rows}

    def values_of(self, keys: list[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        return {key: {name: self._kept.rows[key][name] for name in fields} for key in keys if key in self._kept.rows}

    def count_beyond(self, known: Iterable[str]) -> int:
        return len(list(self.strangers(known)))

    def strangers(self, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        ours = set(known)
        return iter([(key, row["shard"]) for key, row in list(self._kept.rows.items()) if row["shard"] not in ours])

    def compare(self, rows: pa.Table, *, doubled: bool = True) -> Compared:
        kept = self._kept
        sent, _ = rows_for(kept.spec, rows)
        there = [kept.rows[key] for key in sent["id"].to_pylist() if key in kept.rows]
        fields = {name: kind for name, kind in columns_of(kept.spec).items() if kind is not None}
        held = StoredRows(
            keys=[row["id"] for row in there],
            vectors=np.stack([row["vector"] for row in there]) if there else np.empty((0, kept.spec.dim), np.float32),
            fields={name: pa.array([row[name] for row in there], ARROW_TYPES[kind]) for name, kind in fields.items()},
        )
        return compare_rows(sent, held, columns_of(kept.spec), "float32")

    def search(
        self, vectors: np.ndarray, k: int, *, expression: str = "", fields: Iterable[str] = (), one_of_each: str | None = None
    ) -> list[list[Hit]]:
        if expression:
            raise BadInput("a dict has no filters")
        wanted, rows = list(fields), list(self._kept.rows.values())
        return [self._nearest(query, rows, wanted)[:k] for query in vectors]

    def _nearest(self, query: np.ndarray, rows: list[dict[str, Any]], wanted: list[str]) -> list[Hit]:
        hits = [Hit(id=row["id"], score=self._score(query, row["vector"]), fields={name: row[name] for name in wanted}) for row in rows]
        return sorted(hits, key=lambda hit: hit.score, reverse=self._kept.spec.metric != "L2")

    def _score(self, query: np.ndarray, vector: np.ndarray) -> float:
        metric = self._kept.spec.metric
        if metric == "L2":
            return float(((query - vector) ** 2).sum())
        lengths = float(np.linalg.norm(query) * np.linalg.norm(vector)) if metric == "COSINE" else 1.0
        return float(query @ vector) / (lengths or 1.0)

    def lost(self) -> list[str]:
        return []

    def delete_shard(self, shard: str) -> None:
        self.delete_keys(self._keys(shard))

    def delete_keys(self, keys: list[str]) -> None:
        for key in keys:
            self._kept.rows.pop(key, None)


def open_dict(settings: DictSettings, _token: str | None, _secret: object) -> DictTarget:
    """The target that a job's settings name."""
    return DictTarget(settings.shelf)


KIND = TargetKind(settings=DictSettings, opens="tests.builders.more_kinds.dict_target:open_dict")
