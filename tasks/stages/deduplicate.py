"""Deduplicate: assign each key that occurs in several shards to one owner, in whatever order the shards were loaded.

Shards load as soon as they are sealed, in any order, so a key in two of them at first has the row of the shard that was loaded
last. When all are loaded, the keys of all seals are compared (`tasks.adapters.checkpoint.duplicate_finder`). Each
duplicate key is owned by the first or the last shard in plan order; the owner's row is loaded again if the collection holds
another one. The rows that the other shards lose are recorded by shard and part: they count as duplicates, and the proof
expects each shard to have what it owns.

- Cost: keys are stored beside the parts, without vectors. Nothing is read while the seals are those of the last
  deduplication and nothing was loaded since (the first load of a run marks the result as unsettled). A corpus without
  duplicates sends no request to the collection here.
- Resume: the result is written after the collection is correct. A run that is killed before leaves the older result,
  marked as unsettled, and the next run deduplicates again, with the duplicate keys of both.
- Mirrors and changed shards: before rows of a removed shard are deleted, every key that it shared with others is
  assigned to one of those, so that no key is lost. A changed shard that owns a key again gets it back from the shard
  that was loaded later.
- Chunks: a document has one owner, whose chunks stay; surplus chunks of another shard are deleted.
- Refused duplicates: owners are assigned as for `first`, so that the collection is deterministic, and every shard that
  lost a key fails by name.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.duplicate_finder import DuplicateFinder
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.targets.part_loading import load_part
from tasks.domain.errors import BadInput
from tasks.domain.ports import Collection
from tasks.domain.shards.duplicates import Lost, Owners, policy_of
from tasks.domain.shards.seal import SealSetDigest
from tasks.domain.target.chunk_fields import has_chunks, split_chunk_key
from tasks.run.context import Run
from tasks.run.plan import NOWHERE, Plan
from tasks.run.seals.effective_seals import seals_of
from tasks.run.seals.shard_loading import send_vectors_again

KEYS_PER_BATCH = 10_000
KEY_READERS = 16  # shards whose keys are read at a time: one or two megabytes each
REFUSALS_NAMED = 10  # refused shards that fail by name


@task(name="owners", cache_policy=NO_CACHE)
def assign_owners(run: Run, plan: Plan, collection: Collection) -> None:
    """Assign each key that occurs in several shards to one of them, permanently."""
    with run.journal.during("load"):
        send_vectors_again(run, plan, collection)
        covers = SealSetDigest()
        for seal in seals_of(plan):
            covers.add(seal)
        owners = plan.checkpoint.owners_to_rely_on(plan.target)
        if plan.target == NOWHERE or (owners is None and not covers.count):
            return  # a refused corpus writes nothing
        settled = owners and owners.settled and (owners.covers, owners.policy) == (covers.digest, policy_of(plan.job))
        if not owners or not settled:
            with tempfile.TemporaryDirectory(dir=run.scratch) as folder, _finder(plan, Path(folder)) as finder:
                owners = _deduplicate(plan, collection, finder, owners)
    for shard in plan if owners.refused else ():
        if shard.id in owners.refused:
            run.journal.note_failure(shard, BadInput(owners.refused[shard.id]))


def _finder(plan: Plan, folder: Path) -> DuplicateFinder:
    return DuplicateFinder(folder / "owners", chunks=has_chunks(plan.spec.fields))


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The fields of a seal to keep in memory while keys are compared; whole seals list every part and may be large."""

    shard: str
    name: str
    digest: str


def _deduplicate(plan: Plan, collection: Collection, finder: DuplicateFinder, before: Owners | None) -> Owners:
    seals, covers, keys, policy = list[_Sealed](), SealSetDigest(), ShardKeys(plan.checkpoint, plan.scratch), policy_of(plan.job)
    for seal, data in ahead(lambda seal: (seal, keys.read(seal)), seals_of(plan), at_once=KEY_READERS):
        finder.add(len(seals), data)
        covers.add(seal)
        seals.append(_Sealed(seal.shard, seal.name, seal.digest))
    if before and before.table:
        finder.remember(plan.checkpoint.read_lost(before))
    lost = finder.assign_owners(last=policy == "last")
    if lost or (before and before.table):
        collection.flush_and_index()  # a server that still processes thousands of small upserts would time out
    for number, place, owned in finder.owners():
        _restore_owned(plan, collection, seals[number], place, owned)
    for surplus in finder.surplus():
        collection.delete_keys(surplus)
    owners = Owners(covers=covers.digest, policy=policy, settled=True)
    if lost:
        chunks = has_chunks(plan.spec.fields)
        refused = dict(_refused(finder, seals, lost, chunks=chunks)) if policy == "refuse" else {}
        owners = owners.model_copy(update={"lost": _lost(finder, seals, chunks=chunks), "refused": refused})
    plan.checkpoint.replace_owners(plan.target, owners, finder.write_lost([seal.shard for seal in seals]) if lost else None, before)
    return owners


def _restore_owned(plan: Plan, collection: Collection, sealed: _Sealed, place: int, keys: list[str]) -> None:
    """Load the owner's rows again if the collection has another shard's row, or may have its vector (rows sent without vectors)."""
    entry = plan.checkpoint.read_load(plan.target, sealed.shard)
    doubtful = entry is not None and entry.vectors_kept > 0
    holders = (pair for some in _chunks(keys, KEYS_PER_BATCH) for pair in _holders(collection, some))
    wrong = keys if doubtful else [key for key, shard in holders if shard != sealed.shard]
    seal = plan.checkpoint.effective_seal(sealed.shard) if wrong else None
    if seal and seal.digest == sealed.digest:  # otherwise the shard was sealed again meanwhile, and the next run deduplicates again
        part = plan.checkpoint.verified_part(seal.parts[place])
        load_part(collection, part.filter(pc.is_in(part.column("id"), value_set=pa.array(wrong, pa.string()))), seal.shard)


def _holders(collection: Collection, keys: list[str]) -> list[tuple[str, str | None]]:
    shards = collection.shards_of(keys)
    return [(key, shards.get(key)) for key in keys]


def _lost(finder: DuplicateFinder, seals: list[_Sealed], *, chunks: bool) -> dict[str, Lost]:
    parts, documents = defaultdict[int, dict[int, int]](dict), defaultdict[int, dict[int, int]](dict)
    for number, place, keys in finder.lost():
        parts[number][place] = len(keys)
        if chunks:
            documents[number][place] = sum(split_chunk_key(key)[1] == 0 for key in keys)
    return {
        seals[number].shard: Lost(seal=seals[number].digest, parts=counts, documents=documents[number]) for number, counts in parts.items()
    }


def _refused(finder: DuplicateFinder, seals: list[_Sealed], lost: int, *, chunks: bool) -> Iterator[tuple[str, str]]:
    for number, key, owner in finder.examples(REFUSALS_NAMED):
        many = f" ({lost:,} such {'chunks' if chunks else 'rows'} in all)" if lost > 1 else ""
        named = split_chunk_key(key)[0] if chunks else key
        where = f"key '{named}' of {seals[number].name} is also in {seals[owner].name}{many}"
        yield seals[number].shard, f"{where}: make the keys unique, or set failures.on_duplicate to first or last"


def _chunks(keys: list[str], size: int) -> Iterator[list[str]]:
    return (keys[first : first + size] for first in range(0, len(keys), size))
