"""Verify a collection against the seals: row counts, sampled rows, recall of self-queries.

Compared are:
- counts: per shard, a strong `count(*)` on the shard's field with the sealed rows, and of all rows with the sum over the
  shards. A server may over-count for a while after upserts (2.3 does), so a count that is too high is asked again for up
  to `settle` seconds; one that is too low is not: rows do not appear by waiting.
- retained shards, of files that have left the source: newer shards may have taken rows of theirs. Each sealed key that
  does not carry the shard has to be held by a known one.
- keys: of the first `FAULTS_NAMED` shards whose count is wrong, the sealed keys that do not carry the shard, with the shard that
  holds the key now (a key in two shards: the last one loaded has it) or that it is nowhere; keys that carry the shard and
  are not sealed, and keys that come more than once.
- rows: of a sample, or of all with `full`: found by key, cosine at least 0.9999 and lengths within 0.1% to what the
  collection's type of vector makes of the sealed one, every scalar field, the text and the shard; the lowest cosine that is
  reported is to the sealed vector itself.
- recall@10: each of at most `QUERIES` sampled rows is a query. Brute force over the sample orders the sampled rows by
  their exact score to it. With the collection's ten hits, the tenth's score is the bar: every sampled row whose exact
  score is better than the bar by more than 1e-4 (relative, above 1) had to be among the ten, so recall is the share of
  those rows that are, over all queries. The query's own row is one of them unless ten others tie with it. A right
  collection with an exact index has recall 1; rows outside the sample can only raise the bar, never lower the recall.
- full text: that its field and its function are there, and that at most `WORDED` sampled rows are found by words of their own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.targets.every_row import ComparisonTally, DifferenceSummary, Watch, away, compare_parts, leftovers, taken_with_document
from tasks.adapters.targets.row_sample import RowSample, recall, share_by_words
from tasks.adapters.targets.shard_counts import (
    FAULTS_NAMED,
    Beside,
    CountedShard,
    CountPatience,
    ReadPart,
    Sealed,
    Waiting,
    count_beside,
    count_shards,
)
from tasks.domain.errors import BadInput
from tasks.domain.job.index import Parameters
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Seal
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.collection import CollectionSpec, why_not_whole
from tasks.domain.target.difference import Compared, Difference
from tasks.domain.target.proof import Proof, ShardCount, unproved

LEAST_RECALL = 0.9

SealedShards = Iterable[tuple[Seal, ReadPart]]


def prove(
    collection: Collection,
    seals: SealedShards,
    retained: SealedShards = (),
    *,
    sample: int = 1_000,
    seed: int | None = None,
    least_recall: float = LEAST_RECALL,
    clock: CountPatience | None = None,
    full: bool = False,
    search: Parameters | None = None,
    shared: bool = False,
    elsewhere: Callable[[], Iterable[str]] = tuple,
    watch: Watch = lambda _rows: None,
) -> Proof:
    """Compare a collection with its seals.

    Args:
        collection: loaded from these seals.
        seals: each with what reads one of its parts as a table, in threads; only where it is needed.
        retained: the same for shards that are no longer planned and stay in the collection.
        sample: rows that are compared.
        seed: the same seed and seals give the same sample; None: drawn anew, and noted.
        least_recall: recall@10 below which the proof fails.
        clock: how to wait for counts.
        full: compare every row; reads every part.
        search: the collection's search parameters, for the report.
        shared: rows that no seal accounts for belong to other applications.
        elsewhere: shards that others account for; asked only where there are such rows.
        watch: receives the number of compared rows, with `full`.

    Raises:
        BadInput: there is no such collection.
        Transient: the server stayed away.
    """
    clock = clock or CountPatience()
    began = clock.now()
    spec = collection.describe()
    if spec is None:
        raise BadInput("there is no collection to prove: load it first with `kitestring run` or `kitestring replay`")
    if lost := collection.lost():
        return unproved(why_not_whole(spec.name, lost, collection.target.address))
    seed = secrets.randbelow(2**31) if seed is None else seed
    work = _Work(collection=collection, spec=spec, drawn=RowSample(sample, seed), waiting=Waiting(clock), full=full, watch=watch)
    work.count(_shards(seals, retained))
    known = {count.shard for count in work.counts}
    beside = count_beside(collection, known, sum(c.found for c in work.counts), work.waiting, shared=shared, elsewhere=elsewhere)
    sampled = work.compare_sample(known)
    found, worded = recall(collection, sampled, spec, seed), share_by_words(collection, sampled, spec, seed)
    reasons = [*work.reasons(), *_strange(beside)]
    if found is not None and found < least_recall:
        reasons.append(f"recall@10 of searches for sampled rows is {found:.3f}, below {least_recall}")
    if worded is not None and worded < least_recall:
        reasons.append(
            f"{worded:.1%} of sampled rows are found by their own words: the field that the server fills from the text is not whole"
        )
    kinds = work.found.kinds | ({"unaccounted": beside.unaccounted} if beside.unaccounted else {})
    return Proof(
        proved=not reasons,
        reasons=tuple(reasons),
        counts=tuple(count.model_copy(update={"differences": work.found.shards.get(count.shard, 0)}) for count in work.counts),
        rows=sum(count.sealed for count in work.counts if not count.retained),
        total=beside.total,
        sampled=work.sampled,
        absent=work.absent,
        lowest_cosine=work.lowest,
        recall_at_10=found,
        found_by_words=worded,
        index=_searched(spec, search or {}),
        full=full,
        compared=work.rows if full else work.sampled,
        fields=len(columns_of(spec)) - 1,
        retained=sum(count.found for count in work.counts if count.retained),
        foreign=beside.foreign,
        unaccounted=beside.unaccounted,
        kinds=kinds,
        seed=seed,
        seconds=clock.now() - began,
    )


def _shards(seals: SealedShards, retained: SealedShards) -> Iterator[Sealed]:
    yield from (Sealed(seal=seal, read=read) for seal, read in seals)
    yield from (Sealed(seal=seal, read=read, retained=True) for seal, read in retained)


def _searched(spec: CollectionSpec, search: Parameters) -> str:
    over = [] if spec.vector_type == "float32" else ["over", spec.vector_type]
    return " ".join([spec.index.type, *over, *(f"{name}={value}" for name, value in {**spec.index.params, **search}.items())])


def _strange(beside: Beside) -> Iterator[str]:
    yield from beside.reasons
    yield from (each.line({}) for each in beside.strangers)
    if beside.unaccounted:
        yield "`kitestring repair` removes them; set target.shared: true if another writer owns them"


@dataclass(slots=True, kw_only=True)
class _Work:
    """One proof under way."""

    collection: Collection
    spec: CollectionSpec
    drawn: RowSample
    waiting: Waiting
    full: bool
    watch: Watch
    counts: list[ShardCount] = field(default_factory=list)
    found: DifferenceSummary = field(default_factory=lambda: DifferenceSummary(FAULTS_NAMED))
    rows: int = 0
    sampled: int = 0
    absent: int = 0
    lowest: float | None = None
    unsealed: int = 0  # retained shards whose seal is missing
    _miscounted: int = 0

    def count(self, shards: Iterable[Sealed]) -> None:
        """Every shard's count, with `full` its rows, and the differences of shards whose count is wrong."""
        counted = count_shards(self.collection, map(self._meet, shards), self.waiting)
        if self.full:
            self._compare_all(counted)
            return
        for each in counted:
            self._enter(each)
            if each.found != each.sealed.seal.rows and (not each.miscounted or self._miscounted <= FAULTS_NAMED):
                self._add(away(self.collection, each.sealed))
            if each.miscounted and self._miscounted <= FAULTS_NAMED:
                self.found.add(leftovers(self.collection, each))

    def _meet(self, sealed: Sealed) -> Sealed:
        if sealed.retained:
            self.found.retained.add(sealed.seal.shard)
            self.unsealed += sealed.is_unsealed
        return sealed

    def _enter(self, each: CountedShard, *, same_keys: bool | None = None) -> None:
        seal, retained = each.sealed.seal, each.sealed.retained
        self.drawn.draw(each.sealed)
        self._miscounted += each.miscounted
        count = ShardCount(shard=seal.shard, name=seal.name, sealed=seal.rows, found=each.found, same_keys=same_keys, retained=retained)
        self.counts.append(count)

    def _compare_all(self, counted: Iterable[CountedShard]) -> None:
        tally = ComparisonTally()
        for each, compared in compare_parts(self.collection, counted):
            if compared is not None:
                tally.add(compared)
                self._take(compared)
                self.watch(compared.rows)
                continue
            rest = tally.has_leftovers(each) and not each.sealed.is_unsealed
            extra = self.found.add(leftovers(self.collection, each)) if rest else 0
            self._enter(each, same_keys=not extra and (not tally.away or each.sealed.retained))
            self.rows += tally.rows
            tally = ComparisonTally()

    def _add(self, found: Iterable[Difference]) -> None:
        self.found.add(self._by_document(found))

    def _by_document(self, found: Iterable[Difference]) -> Iterable[Difference]:
        """Of chunks, what other shards took from retained ones is told by document."""
        if not has_chunks(self.spec.fields):
            return found
        differences = list(found)
        retained = [each for each in differences if each.shard in self.found.retained]
        return [*(each for each in differences if each.shard not in self.found.retained), *taken_with_document(self.collection, retained)]

    def _take(self, compared: Compared) -> None:
        self._add(compared.differences)
        self.lowest = min((cosine for cosine in (self.lowest, compared.lowest_cosine) if cosine is not None), default=None)

    def compare_sample(self, known: set[str]) -> pa.Table:
        """Those of the drawn rows that are there and have to be."""
        rows = self.drawn.rows()
        compared = self.collection.compare(rows, doubled=False) if rows.num_rows else Compared(rows=0)
        if not self.full:
            self._take(compared)
        self.found.resolve(known)
        differences = list(self._by_document(compared.differences))
        gone = [each.key for each in differences if each.kind == "absent"]
        taken = [each.key for each in differences if each.kind == "shard" and each.shard in self.found.retained]
        self.absent, self.sampled = len(gone), rows.num_rows - len(taken)
        return rows.filter(pc.invert(pc.is_in(rows["id"], value_set=pa.array([*gone, *taken], pa.string())))) if rows.num_rows else rows

    def reasons(self) -> Iterator[str]:
        names = {count.shard: count.name for count in self.counts}
        wrong = [count for count in self.counts if count.wrong]
        for count in wrong[:FAULTS_NAMED]:
            keys = ", and other keys" if count.sealed == count.found else ""
            yield f"shard {count.name} ({count.shard}): {count.sealed} rows sealed, {count.found} in the collection{keys}"
        if len(wrong) > FAULTS_NAMED:
            yield f"{len(wrong)} shards of {len(names)} have another count than their seal; the first {FAULTS_NAMED} are named"
        for kind, kept in self.found.kept.items():
            yield from (each.line(names) for each in kept)
            if (rows := self.found.kinds[kind]) > len(kept):
                yield f"{rows:,} keys in all: {_KINDS.get(kind, f'another {kind} than their seal')}"
        if self.full and self.unsealed:
            yield f"the seals of {self.unsealed:,} shards that left the source are gone, so that their rows cannot be compared"


_KINDS = {
    "absent": "nowhere",
    "extra": "not in the seal of the shard that they carry",
    "shard": "under another shard",
    "doubled": "more than once",
}
