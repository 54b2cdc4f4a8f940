"""The seals of a plan: as committed, and as the collection has to contain them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.checkpoint.shard_keys import ShardKeys, keys_in
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.targets.shard_counts import ReadPart, Sealed
from tasks.domain.shards.duplicates import Owners, owned
from tasks.domain.shards.seal import Loaded, Part, Seal
from tasks.domain.shards.shard import Shard
from tasks.run.plan import Plan


def seals_of(plan: Plan) -> Iterator[Seal]:
    """Yield the effective seal of every shard that has one, in plan order; streams.

    Each seal is read from the store once: copies are reused as long as a listing shows the same seals.
    """
    survey = plan.checkpoint.survey()

    def read() -> Iterator[Seal]:
        seals = ahead(
            lambda shard: plan.checkpoint.effective_seal(shard, look_further=shard in survey.amended), (shard.id for shard in plan)
        )
        return (seal for seal in seals if seal)

    return plan.seals.of(survey.mark, read)


def shards_with_seals(plan: Plan) -> Iterator[tuple[Shard, Seal]]:
    """Yield every sealed shard with its effective seal."""
    seals = seals_of(plan)
    seal = next(seals, None)
    for shard in plan:
        if seal and shard.id == seal.shard:
            yield shard, seal
            seal = next(seals, None)


def owned_seals(plan: Plan) -> Iterator[Seal]:
    """The effective seals in which rows whose key another shard owns count as duplicates."""
    owners = plan.checkpoint.read_owners(plan.target)
    return (owned(seal, owners.of(seal)) if owners else seal for seal in seals_of(plan))


def retained_seals(plan: Plan) -> Iterator[Seal]:
    """The seals of shards that are no longer planned and that the ledger retains; without parts if a seal is gone."""
    planned = DigestSet(shard.id for shard in plan)
    entries = plan.checkpoint.loads(plan.target, but=planned)
    return ahead(lambda entry: plan.checkpoint.effective_seal(entry.shard) or _unsealed(entry), entries)


def retained_parts(plan: Plan) -> Iterator[tuple[Seal, ReadPart]]:
    """The retained seals, each with a function that reads its parts."""
    return ((seal, plan.checkpoint.verified_part) for seal in retained_seals(plan))


@contextmanager
def sealed_shards(plan: Plan) -> Iterator[Iterator[Sealed]]:
    """Every shard that the collection has to contain: planned shards without the rows that others own, then retained ones."""
    with owned_parts(plan) as owned_shards:
        planned = (Sealed(seal=seal, read=read) for seal, read in owned_shards)
        yield chain(planned, (Sealed(seal=seal, read=read, retained=True) for seal, read in retained_parts(plan)))


def _unsealed(entry: Loaded) -> Seal:
    return Seal(
        shard=entry.shard,
        name=entry.group,
        group=entry.group,
        run=entry.run,
        attempt="",
        dim=1,
        source_rows=entry.rows,
        embedded=entry.rows,
        duplicates=0,
        quarantined=(),
        parts=(),
        seconds=entry.seconds,
        sealed_at=entry.loaded_at,
    )


@contextmanager
def owned_parts(plan: Plan) -> Iterator[Iterator[tuple[Seal, ReadPart]]]:
    """Each seal of `owned_seals`, with a function that reads its parts without the rows that other shards own."""
    owners = plan.checkpoint.owners_to_rely_on(plan.target)
    with tempfile.TemporaryDirectory(dir=plan.scratch, prefix="owners-") as folder:
        table = _fetch_table(plan, owners, Path(folder)) if owners and owners.table else None
        yield (_owned_part(plan, owners, table, seal) for seal in seals_of(plan))


@contextmanager
def owned_keys(plan: Plan) -> Iterator[Iterator[tuple[Seal, set[str]]]]:
    """Each seal with the keys that the collection has to have of it, one shard at a time; reads no vectors."""
    owners, keys = plan.checkpoint.owners_to_rely_on(plan.target), ShardKeys(plan.checkpoint, plan.scratch)
    with tempfile.TemporaryDirectory(dir=plan.scratch, prefix="owners-") as folder:
        table = _fetch_table(plan, owners, Path(folder)) if owners and owners.table else None

        def of(seal: Seal) -> set[str]:
            sealed = set(keys_in(keys.read(seal)))
            lost = _lost(table, seal).to_pylist() if table and owners and owners.of(seal) else []
            return sealed.difference(lost)

        yield ((seal, of(seal)) for seal in seals_of(plan))


def sealed_keys(plan: Plan, seal: Seal) -> set[str]:
    """Every key of a seal, including those that other shards own."""
    return set(keys_in(ShardKeys(plan.checkpoint, plan.scratch).read(seal)))


def _lost(table: Path, seal: Seal) -> pa.Array:
    return pq.read_table(table, filters=[("shard", "=", seal.shard)], columns=["id"]).column("id").combine_chunks()


def _owned_part(plan: Plan, owners: Owners | None, table: Path | None, seal: Seal) -> tuple[Seal, ReadPart]:
    lost = owners.of(seal) if owners else None
    if lost is None or table is None:
        return seal, plan.checkpoint.verified_part

    def read(part: Part) -> pa.Table:
        rows = plan.checkpoint.verified_part(part)
        return rows.filter(pc.invert(pc.is_in(rows.column("id"), value_set=_lost(table, seal))))

    return owned(seal, lost), read


def _fetch_table(plan: Plan, owners: Owners, folder: Path) -> Path:
    path = folder / "lost.parquet"
    path.write_bytes(plan.checkpoint.read_lost(owners))
    return path
