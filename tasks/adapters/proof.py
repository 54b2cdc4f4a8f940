"""Prove a collection against the seals: counts, sampled vectors, and searches that find what was sealed.

What is compared:
- counts: per shard, a strong `count(*)` on the shard's field with the sealed rows. A server may over-count for a while
  after upserts (2.3 does), so a count that is too high is asked again for up to `settle` seconds; one that is too low
  is not: rows do not appear by waiting.
- keys: of the first `NAMED` shards whose count is wrong, the sealed keys that do not carry the shard, up to `NAMED` of
  each, with the shard that holds the key now (a key in two shards: the last one loaded has it) or that it is nowhere;
  and keys that carry the shard and are not sealed.
- vectors: of sampled rows, found by key, cosine at least 0.9999 and lengths within 0.1% to what the collection's type of
  vector makes of the sealed one; the lowest cosine that is told is to the sealed vector itself.
- recall@10: each of at most `QUERIES` sampled rows is a query. Brute force over the sample orders the sampled rows by
  their exact score to it. With the collection's ten hits, the tenth's score is the bar: every sampled row whose exact
  score is better than the bar by more than 1e-4 (relative, above 1) had to be among the ten, so recall is the share of
  those rows that are, over all queries. The query's own row is one of them unless ten others tie with it. A right
  collection with an exact index has recall 1; what is not sampled can only raise the bar, never lower the recall.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from tasks.adapters.ahead import AT_ONCE, ahead
from tasks.adapters.collection_memory import score
from tasks.adapters.milvus_columns import vectors_of
from tasks.adapters.vector_types import rounded
from tasks.domain.collection import CollectionSpec
from tasks.domain.errors import BadInput
from tasks.domain.index import Parameters
from tasks.domain.key_digest import digest_keys
from tasks.domain.ports import Collection
from tasks.domain.proof import Proof, ShardCount
from tasks.domain.seal import Part, Seal

NAMED = 10
COUNTERS = 32  # strong counts at a time: each waits some 0.3 s for the server's clock, so that many take as long as one
READ_BYTES = 64 << 20  # of parts that are read at a time
QUERIES = 200
LEAST_COSINE = 0.9999
LEAST_RECALL = 0.9
SLACK = 1e-4

ReadPart = Callable[[Part], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How the proof waits for a server that over-counts."""

    settle: float = 60.0  # seconds, for all shards together
    pause: float = 2.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class _Drawn:
    """Drawn rows of one part."""

    part: Part
    read: ReadPart
    rows: list[int]

    def take(self, dim: int) -> list[tuple[str, np.ndarray]]:
        """Their keys and vectors."""
        table = self.read(self.part).take(self.rows)
        return list(zip(table["id"].to_pylist(), vectors_of(table, dim), strict=True))


@dataclass
class _Sample:
    """Uniform over all rows: those with the smallest random draws, so that parts can stream by, and only those that are drawn are read."""

    size: int
    seed: int
    drawn: list[tuple[float, str, int, Part, ReadPart]] = field(default_factory=list)

    def draw(self, part: Part, read: ReadPart) -> None:
        """Let a part's rows take part; the draw depends on the seed and the part's key alone."""
        draws = np.random.default_rng(_seed_of(self.seed, part.key)).random(part.rows)
        chosen = np.argpartition(draws, self.size)[: self.size] if part.rows > self.size else np.arange(part.rows)
        bar = -self.drawn[0][0] if len(self.drawn) == self.size else 1.0
        for i in chosen[draws[chosen] < bar]:
            entry = (-float(draws[i]), part.key, int(i), part, read)
            if len(self.drawn) < self.size:
                heapq.heappush(self.drawn, entry)
            elif entry > self.drawn[0]:
                heapq.heapreplace(self.drawn, entry)

    def rows(self, dim: int) -> dict[str, np.ndarray]:
        """The drawn rows' vectors by their keys. Several parts are read at a time, as far as memory allows."""
        parts: dict[str, _Drawn] = {}
        for _, key, row, part, read in sorted(self.drawn, key=lambda entry: (-entry[0], entry[1], entry[2])):
            parts.setdefault(key, _Drawn(part, read, [])).rows.append(row)
        largest = max((drawn.part.bytes for drawn in parts.values()), default=1)
        at_once = max(1, min(AT_ONCE, READ_BYTES // max(1, largest)))
        found = ahead(lambda drawn: drawn.take(dim), parts.values(), at_once=at_once)
        return dict(itertools.chain.from_iterable(found))


def _seed_of(seed: int, key: str) -> int:
    return random.Random(f"{seed}/{key}").getrandbits(64)  # noqa: S311 - a sample, not a secret


def prove(
    collection: Collection,
    seals: Iterable[tuple[Seal, ReadPart]],
    *,
    sample: int = 1_000,
    seed: int = 0,
    least_recall: float = LEAST_RECALL,
    clock: Clock | None = None,
    full: bool = False,
    search: Parameters | None = None,
) -> Proof:
    """Compare a collection with what was sealed for it.

    Args:
        collection: loaded from these seals.
        seals: each with what reads one of its parts as a table, in threads; only where the sample or a missing key
            needs it.
        sample: rows whose vectors are compared.
        seed: the same seed and seals give the same sample.
        least_recall: recall@10 below which the proof fails.
        clock: how to wait for counts.
        full: compare a digest of all keys of each shard as well; reads every part.
        search: the parameters that the collection searches with, to be told.

    Raises:
        BadInput: there is no such collection.
        Transient: the server stayed away.
    """
    clock = clock or Clock()
    began = clock.now()
    spec = collection.describe()
    if spec is None:
        raise BadInput("there is no collection to prove: load it first with `kitestring run` or `kitestring replay`")
    counts, wrong, drawn = list[ShardCount](), list[_Counted](), _Sample(sample, seed)
    for counted in _counted(collection, seals, clock):
        each = _with_keys(collection, counted) if full else counted
        counts.append(each.count)
        if each.count.found != each.count.sealed or each.count.same_keys is False:
            wrong.append(each)
        for part in each.seal.parts:
            drawn.draw(part, each.read)
    vectors = _compare(collection, drawn, spec)
    reasons = [*_told(collection, wrong, {count.shard: count.name for count in counts}), *vectors.reasons]
    recall = _recall(collection, vectors, spec, seed)
    if recall is not None and recall < least_recall:
        reasons.append(f"recall@10 of searches for sampled rows is {recall:.3f}, below {least_recall}")
    return Proof(
        proved=not reasons,
        reasons=tuple(reasons),
        counts=tuple(counts),
        rows=sum(count.sealed for count in counts),
        total=collection.count(),
        sampled=len(drawn.drawn),
        absent=len(drawn.drawn) - len(vectors.keys),
        lowest_cosine=vectors.lowest,
        recall_at_10=recall,
        index=_searched(spec, search or {}),
        seed=seed,
        seconds=clock.now() - began,
    )


def _searched(spec: CollectionSpec, search: Parameters) -> str:
    over = [] if spec.vector_type == "float32" else ["over", spec.vector_type]
    return " ".join([spec.index.type, *over, *(f"{name}={value}" for name, value in {**spec.index.params, **search}.items())])


# ---- counts ----


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    seal: Seal
    read: ReadPart
    count: ShardCount


def _counted(collection: Collection, seals: Iterable[tuple[Seal, ReadPart]], clock: Clock) -> Iterator[_Counted]:
    """Counts in the order given; some run at once, since a strong count mostly waits for the server's clock."""
    deadline = clock.now() + clock.settle

    def count(seal: Seal) -> ShardCount:
        found = collection.count(seal.shard)
        while found > seal.embedded and clock.now() < deadline:
            clock.sleep(clock.pause)
            found = collection.count(seal.shard)
        return ShardCount(shard=seal.shard, name=seal.name, sealed=seal.embedded, found=found)

    waiting: deque[tuple[Seal, ReadPart, Future[ShardCount]]] = deque()
    with ThreadPoolExecutor(COUNTERS) as pool:
        for seal, read in seals:
            waiting.append((seal, read, pool.submit(count, seal)))
            if len(waiting) > COUNTERS:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: deque[tuple[Seal, ReadPart, Future[ShardCount]]]) -> _Counted:
    seal, read, count = waiting.popleft()
    return _Counted(seal=seal, read=read, count=count.result())


def _with_keys(collection: Collection, counted: _Counted) -> _Counted:
    """Both sides in pages: a shard's keys are nowhere all at once."""
    sealed = (key for part in counted.seal.parts for key in counted.read(part)["id"].to_pylist())
    same = digest_keys(sealed) == digest_keys(collection.keys(counted.seal.shard))
    return replace(counted, count=counted.count.model_copy(update={"same_keys": same}))


def _told(collection: Collection, wrong: list[_Counted], names: dict[str, str]) -> Iterator[str]:
    for each in wrong[:NAMED]:
        seal = each.seal
        keys = ", and other keys" if each.count.sealed == each.count.found else ""
        yield f"shard {seal.name} ({seal.shard}): {each.count.sealed} rows sealed, {each.count.found} in the collection{keys}"
        yield from _wrong_keys(collection, seal, each.read, names)
    if len(wrong) > NAMED:
        yield f"{len(wrong)} shards of {len(names)} have another count than their seal; the first {NAMED} are named"


def _wrong_keys(collection: Collection, seal: Seal, read: ReadPart, names: dict[str, str]) -> Iterator[str]:
    there = set(collection.keys(seal.shard))
    sealed = [key for part in seal.parts for key in read(part)["id"].to_pylist()]
    gone = [key for key in sealed if key not in there][:NAMED]
    holders = collection.shards_of(gone)
    for key in gone:
        holder = holders.get(key)
        where = f"is held by shard {names.get(holder, 'of another corpus')} ({holder}): a key in two shards" if holder else "is nowhere"
        yield f"key {key!r} of shard {seal.name} {where}"
    for key in sorted(there.difference(sealed))[:NAMED]:
        yield f"key {key!r} carries shard {seal.name} and is not in its seal"


# ---- vectors ----


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    keys: list[str]
    vectors: np.ndarray  # as sealed, and as the collection's type holds them
    lowest: float | None
    reasons: list[str]


def _compare(collection: Collection, drawn: _Sample, spec: CollectionSpec) -> _Compared:
    sealed = drawn.rows(spec.dim)
    keys, found = collection.fetch(list(sealed))
    absent = [key for key in sealed if key not in set(keys)]
    reasons = [f"sampled key {key!r} is not in the collection" for key in absent[:NAMED]]
    wanted = np.stack([sealed[key] for key in keys]) if keys else np.empty((0, spec.dim), np.float32)
    due = rounded(wanted, spec.vector_type)
    cosines = _cosines(found, due)
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(due, axis=1)
    wrong = np.flatnonzero((cosines < LEAST_COSINE) | ~np.isclose(*lengths, rtol=1e-3))
    reasons += [f"key {keys[i]!r} has another vector than its seal: cosine {cosines[i]:.6f}" for i in wrong[:NAMED]]
    if len(wrong) > NAMED:
        reasons.append(f"{len(wrong)} of {len(keys)} sampled rows have another vector than their seal")
    return _Compared(keys=keys, vectors=due, lowest=float(_cosines(found, wanted).min()) if keys else None, reasons=reasons)


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if not len(left):
        return np.empty(0)
    products = (left.astype(np.float64) * right).sum(axis=1)
    lengths = np.linalg.norm(left.astype(np.float64), axis=1) * np.linalg.norm(right.astype(np.float64), axis=1)
    same = (left == right).all(axis=1)
    cosines: np.ndarray = np.where(same, 1.0, products / np.where(lengths == 0, 1, lengths))
    return cosines


def _recall(collection: Collection, compared: _Compared, spec: CollectionSpec, seed: int) -> float | None:
    if not compared.keys:
        return None
    chosen = np.random.default_rng(seed).permutation(len(compared.keys))[:QUERIES]
    queries = compared.vectors[chosen]
    exact = score(queries, compared.vectors, spec.metric) * (-1 if spec.metric == "L2" else 1)
    answers = collection.search(queries, 10)
    due = had = 0
    for scores, hits in zip(exact, answers, strict=True):
        found = {hit.id for hit in hits}
        bar = min(hit.score * (-1 if spec.metric == "L2" else 1) for hit in hits) if len(hits) == 10 else -np.inf
        better = np.flatnonzero(scores > bar + SLACK * max(1.0, abs(bar)))
        due += len(better)
        had += sum(compared.keys[i] in found for i in better)
    return had / due if due else 1.0
