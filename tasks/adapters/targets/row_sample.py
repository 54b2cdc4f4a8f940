"""A sample of sealed rows, uniform over all of them, and the searches that have to find it."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tasks.adapters.concurrent_map import CALLS_AT_ONCE, ahead
from tasks.adapters.rows.collection_rows import upsert_vectors
from tasks.adapters.rows.vectors.vector_types import rounded
from tasks.adapters.targets.bm25 import words_of
from tasks.adapters.targets.memory_collection import score
from tasks.adapters.targets.shard_counts import Sealed
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Part
from tasks.domain.target.collection import CollectionSpec

READ_BYTES = 32 << 20  # of parts that are read at a time; as much again while they are decoded
SELF_QUERIES = 200
WORDED = 32
ASKED_CHARACTERS = 1_000  # of a text
SLACK = 1e-4


@dataclass(slots=True)
class _Drawn:
    """Drawn rows of one part."""

    part: Part
    sealed: Sealed
    rows: list[int]

    def take(self) -> pa.Table:
        return self.sealed.read(self.part).take(self.rows)


@dataclass
class RowSample:
    """Those rows with the smallest random draws, so that parts can stream by, and only those that are drawn are read."""

    size: int
    seed: int
    drawn: list[tuple[float, str, int, Part, Sealed]] = field(default_factory=list)

    def draw(self, sealed: Sealed) -> None:
        """Let a shard's rows take part; a draw depends on the seed and the part's key alone."""
        for part in sealed.seal.parts:
            self._draw(part, sealed)

    def _draw(self, part: Part, sealed: Sealed) -> None:
        draws = np.random.default_rng(_seed_of(self.seed, part.key)).random(part.rows)
        chosen = np.argpartition(draws, self.size)[: self.size] if part.rows > self.size else np.arange(part.rows)
        bar = -self.drawn[0][0] if len(self.drawn) == self.size else 1.0
        for i in chosen[draws[chosen] < bar]:
            entry = (-float(draws[i]), part.key, int(i), part, sealed)
            if len(self.drawn) < self.size:
                heapq.heappush(self.drawn, entry)
            elif entry > self.drawn[0]:
                heapq.heapreplace(self.drawn, entry)

    def rows(self) -> pa.Table:
        """The drawn rows, by parts. Several are read at a time, as far as memory allows."""
        parts: dict[str, _Drawn] = {}
        for _, key, row, part, sealed in sorted(self.drawn, key=lambda entry: (-entry[0], entry[1], entry[2])):
            parts.setdefault(key, _Drawn(part, sealed, [])).rows.append(row)
        largest = max((drawn.part.bytes for drawn in parts.values()), default=1)
        at_once = max(1, min(CALLS_AT_ONCE, READ_BYTES // max(1, largest)))
        tables = list(ahead(_Drawn.take, parts.values(), at_once=at_once))
        return pa.concat_tables(tables, promote_options="default") if tables else pa.table({"id": pa.array([], pa.string())})


def _seed_of(seed: int, key: str) -> int:
    return random.Random(f"{seed}/{key}").getrandbits(64)  # noqa: S311 - a sample, not a secret


def recall(collection: Collection, rows: pa.Table, spec: CollectionSpec, seed: int) -> float | None:
    """As `tasks.adapters.targets.verification` defines it; None: there are no rows."""
    keys = rows["id"].to_pylist()
    if not keys:
        return None
    vectors = rounded(upsert_vectors(rows, spec.dim), spec.vector_type)
    queries = vectors[np.random.default_rng(seed).permutation(len(keys))[:SELF_QUERIES]]
    exact = score(queries, vectors, spec.metric) * (-1 if spec.metric == "L2" else 1)
    answers = collection.search(queries, 10)
    due = had = 0
    for scores, hits in zip(exact, answers, strict=True):
        found = {hit.id for hit in hits}
        bar = min(hit.score * (-1 if spec.metric == "L2" else 1) for hit in hits) if len(hits) == 10 else -np.inf
        better = np.flatnonzero(scores > bar + SLACK * max(1.0, abs(bar)))
        due += len(better)
        had += sum(keys[i] in found for i in better)
    return had / due if due else 1.0


def share_by_words(collection: Collection, rows: pa.Table, spec: CollectionSpec, seed: int) -> float | None:
    """Share of some sampled rows that are found by their own words; None: no search by words, or no row with words."""
    if not spec.full_text or not rows.num_rows:
        return None
    drawn = rows.take(np.random.default_rng(seed).permutation(rows.num_rows)[:WORDED])
    texts = {key: (text or "")[:ASKED_CHARACTERS] for key, text in zip(drawn["id"].to_pylist(), drawn["text"].to_pylist(), strict=True)}
    asked = {key: text for key, text in texts.items() if words_of(text)}
    return len(collection.found_by_words(asked)) / len(asked) if asked else None
