"""Verifies a collection against the seals: row counts, sampled rows, recall of self-queries.

It compares:
- counts: per shard, a strong `count(*)` on the shard field with the sealed rows, and the total with the sum over the
  shards. A server may over-count for a while after upserts (2.3 does), so a count that is too high is repeated for up
  to `settle` seconds; one that is too low is not, since rows do not appear by waiting.
- retained shards, of files that have left the source: newer shards may have taken over some of their rows. Each sealed key that
  does not carry the shard must be held by a known one.
- keys, for the first `FAULTS_NAMED` shards with a wrong count: sealed keys that do not carry the shard, with the shard that
  holds the key now (a key in two shards: the last one loaded has it) or that the key is absent; keys that carry the shard and
  are not sealed; and keys that occur more than once.
- rows, of a sample or of all with `full`: found by key, cosine at least 0.9999 and lengths within 0.1% to the sealed vector
  as converted to the collection's vector type, every scalar field, the text and the shard. The reported lowest cosine
  is to the sealed vector itself.
- recall@10: each of at most `SELF_QUERIES` sampled rows is a query. Brute force over the sample orders the sampled rows by
  their exact score to it. With the collection's ten hits, the tenth's score is the bar: every sampled row whose exact
  score is better than the bar by more than 1e-4 (relative, above 1) must be among the ten, so recall is the share of
  those rows that are, over all queries. The query's own row is one of them unless ten others tie with it. A correct
  collection with an exact index has recall 1; rows outside the sample can only raise the bar, never lower the recall.
- full text: its field and its function exist, and each of at most `WORDED` sampled rows is found by its own words.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.targets.every_row import (
    ComparisonTally,
    DifferenceSummary,
    Watch,
    compare_parts,
    leftovers,
    missing_keys,
    taken_with_document,
)
from tasks.adapters.targets.row_sample import RowSample, recall, share_by_words
from tasks.adapters.targets.shard_counts import (
    FAULTS_NAMED,
    CountedShard,
    CountPatience,
    OtherRows,
    ReadPart,
    Sealed,
    Waiting,
    count_other_rows,
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
        collection: the collection, loaded from these seals.
        seals: each with a function that reads one of its parts as a table; called from threads, only for parts that are needed.
        retained: the same for shards that are no longer planned and stay in the collection.
        sample: number of rows to compare.
        seed: the same seed and seals give the same sample; None: random, recorded in the proof.
        least_recall: recall@10 below which the proof fails.
        clock: how to wait for counts.
        full: compare every row; reads every part.
        search: the collection's search parameters, for the report.
        shared: whether rows that no seal accounts for belong to other applications.
        elsewhere: returns shards that other corpora account for; called only if there are such rows.
        watch: receives the number of compared rows, with `full`.

    Raises:
        BadInput: the collection does not exist.
        Transient: the server did not answer.
    """
    clock = clock or CountPatience()
    began = clock.now()
    spec = collection.describe()
    if spec is None:
        raise BadInput("there is no collection to verify: load it first with `kitestring run` or `kitestring replay`")
    if lost := collection.lost():
        return unproved(why_not_whole(spec.name, lost, collection.target.address))
    seed = secrets.randbelow(2**31) if seed is None else seed
    work = _Work(collection=collection, spec=spec, drawn=RowSample(sample, seed), waiting=Waiting(clock), full=full, watch=watch)
    work.count(_shards(seals, retained))
    known = {count.shard for count in work.counts}
    others = count_other_rows(collection, known, sum(c.found for c in work.counts), work.waiting, shared=shared, elsewhere=elsewhere)
    sampled = work.compare_sample(known)
    recall_at_10, worded = recall(collection, sampled, spec, seed), share_by_words(collection, sampled, spec, seed)
    reasons = [*work.reasons(), *_reasons_of(others)]
    if recall_at_10 is not None and recall_at_10 < least_recall:
        reasons.append(f"recall@10 of searches for sampled rows is {recall_at_10:.3f}, below {least_recall}")
    if worded is not None and worded < least_recall:
        reasons.append(
            f"{worded:.1%} of sampled rows are found by their own words: the field that the server fills from the text is incomplete"
        )
    kinds = work.differences.kinds | ({"unaccounted": others.unaccounted} if others.unaccounted else {})
    return Proof(
        proved=not reasons,
        reasons=tuple(reasons),
        counts=tuple(count.model_copy(update={"differences": work.differences.shards.get(count.shard, 0)}) for count in work.counts),
        rows=sum(count.sealed for count in work.counts if not count.retained),
        total=others.total,
        sampled=work.sampled,
        absent=work.absent,
        lowest_cosine=work.lowest,
        recall_at_10=recall_at_10,
        found_by_words=worded,
        index=_searched(spec, search or {}),
        full=full,
        compared=work.rows if full else work.sampled,
        fields=len(columns_of(spec)) - 1,
        retained=sum(count.found for count in work.counts if count.retained),
        foreign=others.foreign,
        unaccounted=others.unaccounted,
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


def _reasons_of(others: OtherRows) -> Iterator[str]:
    yield from others.reasons
    yield from (each.line({}) for each in others.strangers)
    if others.unaccounted:
        yield "`kitestring repair` removes them; set target.shared: true if another writer owns them"


@dataclass(slots=True, kw_only=True)
class _Work:
    """A proof in progress."""

    collection: Collection
    spec: CollectionSpec
    drawn: RowSample
    waiting: Waiting
    full: bool
    watch: Watch
    counts: list[ShardCount] = field(default_factory=list)
    differences: DifferenceSummary = field(default_factory=lambda: DifferenceSummary(FAULTS_NAMED))
    rows: int = 0
    sampled: int = 0
    absent: int = 0
    lowest: float | None = None
    unsealed: int = 0  # retained shards whose seal is missing
    _miscounted: int = 0

    def count(self, shards: Iterable[Sealed]) -> None:
        """Count every shard; compare its rows with `full`, otherwise the keys of shards whose count is wrong."""
        counted = count_shards(self.collection, map(self._register, shards), self.waiting)
        if self.full:
            self._compare_all(counted)
            return
        for each in counted:
            self._enter(each)
            if each.found != each.sealed.seal.rows and (not each.miscounted or self._miscounted <= FAULTS_NAMED):
                self._add(missing_keys(self.collection, each.sealed))
            if each.miscounted and self._miscounted <= FAULTS_NAMED:
                self.differences.add(leftovers(self.collection, each))

    def _register(self, sealed: Sealed) -> Sealed:
        if sealed.retained:
            self.differences.retained.add(sealed.seal.shard)
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
            has_leftovers = tally.has_leftovers(each) and not each.sealed.is_unsealed
            extra = self.differences.add(leftovers(self.collection, each)) if has_leftovers else 0
            self._enter(each, same_keys=not extra and (not tally.missing or each.sealed.retained))
            self.rows += tally.rows
            tally = ComparisonTally()

    def _add(self, found: Iterable[Difference]) -> None:
        self.differences.add(self._by_document(found))

    def _by_document(self, found: Iterable[Difference]) -> Iterable[Difference]:
        """For chunks, attribute rows that other shards took over from retained ones by document."""
        if not has_chunks(self.spec.fields):
            return found
        differences, retained = list(found), self.differences.retained
        of_retained = [each for each in differences if each.shard in retained]
        return [*(each for each in differences if each.shard not in retained), *taken_with_document(self.collection, of_retained)]

    def _take(self, compared: Compared) -> None:
        self._add(compared.differences)
        self.lowest = min((cosine for cosine in (self.lowest, compared.lowest_cosine) if cosine is not None), default=None)

    def compare_sample(self, known: set[str]) -> pa.Table:
        """Compare the drawn rows; return those that are in the collection under their own shard."""
        rows = self.drawn.rows()
        compared = self.collection.compare(rows, doubled=False) if rows.num_rows else Compared(rows=0)
        if not self.full:
            self._take(compared)
        self.differences.resolve(known)
        differences = list(self._by_document(compared.differences))
        absent = [each.key for each in differences if each.kind == "absent"]
        taken = [each.key for each in differences if each.kind == "shard" and each.shard in self.differences.retained]
        self.absent, self.sampled = len(absent), rows.num_rows - len(taken)
        return rows.filter(pc.invert(pc.is_in(rows["id"], value_set=pa.array([*absent, *taken], pa.string())))) if rows.num_rows else rows

    def reasons(self) -> Iterator[str]:
        names = {count.shard: count.name for count in self.counts}
        wrong = [count for count in self.counts if count.wrong]
        for count in wrong[:FAULTS_NAMED]:
            keys = ", and other keys" if count.sealed == count.found else ""
            yield f"shard {count.name} ({count.shard}): {count.sealed} rows sealed, {count.found} in the collection{keys}"
        if len(wrong) > FAULTS_NAMED:
            yield f"{len(wrong)} of {len(names)} shards do not match their seals; the first {FAULTS_NAMED} are named"
        for kind, examples in self.differences.examples.items():
            yield from (each.line(names) for each in examples)
            if (rows := self.differences.kinds[kind]) > len(examples):
                yield f"{rows:,} keys in total: {_KINDS.get(kind, f'{kind} differs from the seal')}"
        if self.full and self.unsealed:
            yield f"the seals of {self.unsealed:,} shards that left the source are missing, so their rows cannot be compared"


_KINDS = {
    "absent": "not in the collection",
    "extra": "not in the seal of their shard",
    "shard": "under another shard",
    "doubled": "more than once",
}
