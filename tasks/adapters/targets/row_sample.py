"""A uniform sample of the sealed rows, and the searches that must find its rows."""

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

READ_BYTES = 32 << 20  # of parts that are read concurrently; decoding needs as much again
SELF_QUERIES = 200
WORDED = 32  # rows that are searched by their own words
ASKED_CHARACTERS = 1_000  # of a text, in a search by its words
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
    """The rows with the smallest random draws: shards can be streamed, and only parts with drawn rows are read."""

    size: int
    seed: int
    drawn: list[tuple[float, str, int, Part, Sealed]] = field(default_factory=list)

    def draw(self, sealed: Sealed) -> None:
        """Include a shard's rows in the draw, which depends only on the seed and the part's key."""
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
        """The drawn rows, ordered by part. Reads several parts concurrently, within `READ_BYTES`."""
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
    """Recall@10 as `tasks.adapters.targets.verification` defines it; None: there are no rows."""
    keys = rows["id"].to_pylist()
    if not keys:
        return None
    vectors = rounded(upsert_vectors(rows, spec.dim), spec.vector_type)
    queries = vectors[np.random.default_rng(seed).permutation(len(keys))[:SELF_QUERIES]]
    exact = score(queries, vectors, spec.metric) * (-1 if spec.metric == "L2" else 1)
    answers = collection.search(queries, 10)
    expected = found = 0
    for scores, hits in zip(exact, answers, strict=True):
        hit_keys = {hit.id for hit in hits}
        bar = min(hit.score * (-1 if spec.metric == "L2" else 1) for hit in hits) if len(hits) == 10 else -np.inf
        better = np.flatnonzero(scores > bar + SLACK * max(1.0, abs(bar)))
        expected += len(better)
        found += sum(keys[i] in hit_keys for i in better)
    return found / expected if expected else 1.0


def share_by_words(collection: Collection, rows: pa.Table, spec: CollectionSpec, seed: int) -> float | None:
    """Share of some sampled rows that a search by their own words finds; None: no full-text search, or no row with words."""
    if not spec.full_text or not rows.num_rows:
        return None
    drawn = rows.take(np.random.default_rng(seed).permutation(rows.num_rows)[:WORDED])
    texts = {key: (text or "")[:ASKED_CHARACTERS] for key, text in zip(drawn["id"].to_pylist(), drawn["text"].to_pylist(), strict=True)}
    with_words = {key: text for key, text in texts.items() if words_of(text)}
    return len(collection.found_by_words(with_words)) / len(with_words) if with_words else None
