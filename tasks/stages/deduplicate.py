"""Owners: a key that comes in several shards belongs to one of them, whichever was loaded first or last.

Shards load as soon as they are sealed, in any order, so that a key in two of them belongs at first to the one that
came last. When all are loaded, the keys of all seals are laid side by side (`tasks.adapters.checkpoint.duplicate_finder`), and of each
key that comes twice the row of its owner, the first or the last shard in plan order, is put in again where another
one's stands. What the other shards lose so is written down by shard and part: it counts as duplicate in the accounts,
and the proof expects each shard with what it owns.

- Cheap: keys are kept beside the parts without the vectors, and nothing is read as long as the seals are those that
  were settled and nothing was loaded since (the first load of a run says so before it begins). A corpus without
  duplicates never asks the collection anything here.
- Resume: the outcome is written after the collection is right. A run that is killed before leaves the older outcome,
  marked as unsettled, and the next one settles again: both the keys doubled now and those doubled then are looked at.
- Mirror, and a shard that changed: before rows of a removed shard are deleted, every key that it owned and others
  have as well belongs to one of those, so that nothing is missed when it goes. A changed shard that owns a key again
  gets it back from the one that was loaded later.
- Chunks: a document has one owner, whose chunks stay; those that another shard has beyond them leave the collection.
- Refused: owners are settled as for `first`, so that the collection is the same each time, and every shard that lost a
  key fails by name.
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

KEYS_PER_BATCH = 10_000  # keys at a time
KEY_READERS = 16  # of shards' keys: each may be a megabyte or two
REFUSALS_NAMED = 10  # refused shards whose reason is logged


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
            return  # a corpus that is refused leaves nothing behind
        settled = owners and owners.settled and (owners.covers, owners.policy) == (covers.digest, policy_of(plan.job))
        if not owners or not settled:
            with tempfile.TemporaryDirectory(dir=run.scratch) as folder, _finder(plan, Path(folder)) as table:
                owners = _settle(plan, collection, table, owners)
    for shard in plan if owners.refused else ():
        if shard.id in owners.refused:
            run.journal.note_failure(shard, BadInput(owners.refused[shard.id]))


def _finder(plan: Plan, folder: Path) -> DuplicateFinder:
    return DuplicateFinder(folder / "owners", chunks=has_chunks(plan.spec.fields))


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The fields of a seal that are kept in memory while keys are compared: a seal holds every part, and there may be many."""

    shard: str
    name: str
    digest: str


def _settle(plan: Plan, collection: Collection, table: DuplicateFinder, before: Owners | None) -> Owners:
    seals, covers, keys, policy = list[_Sealed](), SealSetDigest(), ShardKeys(plan.checkpoint, plan.scratch), policy_of(plan.job)
    for seal, data in ahead(lambda seal: (seal, keys.read(seal)), seals_of(plan), at_once=KEY_READERS):
        table.add(len(seals), data)
        covers.add(seal)
        seals.append(_Sealed(seal.shard, seal.name, seal.digest))
    if before and before.table:
        table.remember(plan.checkpoint.read_lost(before))
    lost = table.assign_owners(last=policy == "last")
    if lost or (before and before.table):
        collection.flush_and_index()  # a server that is still at thousands of small upserts would not answer in a call's time
    for number, place, owned in table.owners():
        _put_right(plan, collection, seals[number], place, owned)
    for surplus in table.surplus():
        collection.delete_keys(surplus)
    owners = Owners(covers=covers.digest, policy=policy, settled=True)
    if lost:
        chunks = has_chunks(plan.spec.fields)
        refused = dict(_refused(table, seals, lost, chunks=chunks)) if policy == "refuse" else {}
        owners = owners.model_copy(update={"lost": _lost(table, seals, chunks=chunks), "refused": refused})
    plan.checkpoint.replace_owners(plan.target, owners, table.write_lost([seal.shard for seal in seals]) if lost else None, before)
    return owners


def _put_right(plan: Plan, collection: Collection, sealed: _Sealed, place: int, keys: list[str]) -> None:
    """Rows that another shard holds go in again as this one has them; and those whose vectors may be another's, since they came without."""
    entry = plan.checkpoint.read_load(plan.target, sealed.shard)
    doubtful = entry is not None and entry.vectors_kept > 0
    held = (pair for some in _chunks(keys, KEYS_PER_BATCH) for pair in _holders(collection, some))
    wrong = keys if doubtful else [key for key, shard in held if shard != sealed.shard]
    seal = plan.checkpoint.effective_seal(sealed.shard) if wrong else None
    if seal and seal.digest == sealed.digest:  # another one: that shard was sealed anew meanwhile, and the next run settles again
        part = plan.checkpoint.verified_part(seal.parts[place])
        load_part(collection, part.filter(pc.is_in(part.column("id"), value_set=pa.array(wrong, pa.string()))), seal.shard)


def _holders(collection: Collection, keys: list[str]) -> list[tuple[str, str | None]]:
    held = collection.shards_of(keys)
    return [(key, held.get(key)) for key in keys]


def _lost(table: DuplicateFinder, seals: list[_Sealed], *, chunks: bool) -> dict[str, Lost]:
    parts, documents = defaultdict[int, dict[int, int]](dict), defaultdict[int, dict[int, int]](dict)
    for number, place, keys in table.lost():
        parts[number][place] = len(keys)
        if chunks:
            documents[number][place] = sum(split_chunk_key(key)[1] == 0 for key in keys)
    return {
        seals[number].shard: Lost(seal=seals[number].digest, parts=counts, documents=documents[number]) for number, counts in parts.items()
    }


def _refused(table: DuplicateFinder, seals: list[_Sealed], lost: int, *, chunks: bool) -> Iterator[tuple[str, str]]:
    for number, key, owner in table.examples(REFUSALS_NAMED):
        many = f" ({lost:,} such {'chunks' if chunks else 'rows'} in all)" if lost > 1 else ""
        named = split_chunk_key(key)[0] if chunks else key
        where = f"key '{named}' of {seals[number].name} comes also in {seals[owner].name}{many}"
        yield seals[number].shard, f"{where}: make the keys unique, or set failures.on_duplicate to first or last"


def _chunks(keys: list[str], size: int) -> Iterator[list[str]]:
    return (keys[first : first + size] for first in range(0, len(keys), size))
