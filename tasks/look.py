"""Looking without touching: what `plan`, `status`, `verify` and `quarantine list` say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tasks.adapters.digest_set import DigestSet
from tasks.adapters.scratch import scratch_folder
from tasks.domain.accounts import RowFates, ShardFates
from tasks.domain.errors import BadInput, Damaged
from tasks.domain.job import Job
from tasks.domain.ports import Collection
from tasks.domain.proof import Proof, unproved
from tasks.estimate import Foresight
from tasks.load import opened
from tasks.plan import Plan, check_roots, plan_again, spool_spans
from tasks.preflight import inspect_job
from tasks.rounds import look_for_damage
from tasks.seals import owned_keys, seals_of
from tasks.stale import foresee_removals
from tasks.totals import count_seals
from tasks.verify import verify_plan


@contextmanager
def _planned(job: Job) -> Iterator[Plan | None]:
    with scratch_folder() as scratch:
        yield plan_again(inspect_job(job), scratch)


@contextmanager
def _planned_before(job: Job) -> Iterator[Plan]:
    with _planned(job) as plan:
        if plan is None:
            raise BadInput(f"corpus '{job.corpus}' holds nothing made with this encoder: `kitestring run` makes it")
        yield plan


def look_at_plan(job: Job) -> dict[str, Any]:
    """What a run would do and what that takes: shards, rows, what is sealed, an estimate; touches no GPU and writes nothing."""
    with scratch_folder() as scratch:
        inspected = inspect_job(job)
        plan = plan_again(inspected, scratch)
        if plan:
            check_roots(plan)
        foresight = Foresight(inspected, plan.spool if plan else spool_spans(inspected, scratch), plan)
        removals = {rule: removal.model_dump() for rule, removal in foresee_removals(plan).items()} if plan else {}
        return foresight.figures(foresight.estimate()) | {"removals": removals}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The ledger of a corpus."""

    rows: RowFates
    shards: ShardFates
    verified: bool
    report: str | None
    quarantine: dict[str, int]
    collection: str | None = None
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.damaged and bool(self.shards.planned) and self.shards.loaded == self.shards.planned and self.verified

    @property
    def summary(self) -> dict[str, Any]:
        """What `status --json` prints."""
        return {
            "rows": self.rows.model_dump(),
            "shards": self.shards.model_dump(),
            "verified": self.verified,
            "report": self.report,
            "damaged": list(self.damaged),
        }


def look_at_status(job: Job) -> Status:
    """What is sealed and loaded, from the store alone. Rows count as embedded, whichever run did it."""
    with scratch_folder() as scratch:
        inspected = inspect_job(job)
        plan = plan_again(inspected, scratch)
        if plan is None:
            spool = spool_spans(inspected, scratch)
            nothing = RowFates(source=spool.rows)
            return Status(rows=nothing, shards=ShardFates(planned=spool.shards), verified=False, report=None, quarantine={})
        damaged = _damaged(plan)
        totals = count_seals(plan, encoded_now={})
        proof = plan.checkpoint.read_proof(plan.target)
        return Status(
            rows=totals.rows.model_copy(update={"embedded": totals.rows.reused, "reused": 0}),
            shards=ShardFates(planned=plan.spool.shards, sealed=totals.sealed, loaded=totals.loaded),
            verified=bool(proof and proof.proved and proof.covers == totals.cover.digest),
            report=plan.checkpoint.latest_report(),
            quarantine=dict(totals.quarantine),
            collection=plan.spec.name,
            damaged=damaged,
        )


def _damaged(plan: Plan) -> tuple[str, ...]:
    """What of the documents that a plan rests on cannot be read, in lines."""
    plan.confirm_encoder()
    for _ in look_for_damage(plan):
        pass
    return tuple(plan.inspected.damages.lines)


def look_at_proof(job: Job, *, full: bool = False) -> Proof:
    """Hold the collection against the seals now. `full`: every key."""
    with _planned_before(job) as plan, opened(plan) as collection:
        if collection.describe() is None:
            raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.uri}: `kitestring run` or `replay` loads it")
        if damaged := _damaged(plan):
            return unproved(*damaged)
        try:
            return verify_plan(plan, collection, full=full)
        except Damaged as damage:
            return unproved(f"{damage}: `kitestring run` encodes its shard again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What the seals and the collection do not have in common; how much of the plan is not sealed yet, or cannot be read."""

    found: Iterator[Difference]
    unsealed: int
    damaged: tuple[str, ...]


@contextmanager
def look_at_diff(job: Job) -> Iterator[Differences]:
    """What the seals and the collection do not have in common, shard by shard.

    Rows of shards that are no longer in the source are in the collection alone: an append keeps them.

    Raises:
        BadInput: there is nothing to compare.
        Damaged: a part had to be read and is not what was sealed.
    """
    with _planned_before(job) as plan, opened(plan) as collection:
        if collection.describe() is None:
            raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.uri}: `kitestring run` or `replay` loads it")
        damaged, sealed = _damaged(plan), plan.checkpoint.sealed_ids()
        yield Differences(found=_differences(plan, collection), unsealed=sum(shard.id not in sealed for shard in plan), damaged=damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A key that only one side has."""

    key: str
    shard: str
    only_in: Literal["source", "collection"]


def _differences(plan: Plan, collection: Collection) -> Iterator[Difference]:
    with owned_keys(plan) as shards:
        for seal, sealed in shards:
            there = set(collection.keys(seal.shard))
            yield from (Difference(key=key, shard=seal.name, only_in="source") for key in sorted(sealed - there))
            yield from (Difference(key=key, shard=seal.name, only_in="collection") for key in sorted(there - sealed))
    planned = DigestSet(shard.id for shard in plan)
    for entry in plan.checkpoint.loads(plan.target, but=planned):
        yield from (Difference(key=key, shard=entry.group, only_in="collection") for key in collection.keys(entry.shard))


def look_at_quarantine(job: Job) -> Iterator[dict[str, Any]]:
    """The rows set aside, in plan order."""
    with _planned_before(job) as plan:
        for seal in seals_of(plan):
            for row in seal.quarantined:
                yield {"shard": seal.name, "row": row.row, "id": row.id, "reason": row.reason}
