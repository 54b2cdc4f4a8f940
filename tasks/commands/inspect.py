"""Read-only commands: `plan`, `status`, `diff` and `quarantine list`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from tasks.adapters.checkpoint.hosts_record import newest_hosts
from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.targets.every_row import every_difference, taken_with_document
from tasks.adapters.targets.shard_counts import Waiting, count_shards
from tasks.commands.follow_run import run_under_way
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.report.hosts import HostsOfRun
from tasks.domain.shards.row_accounting import RowCounts, ShardCounts
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.difference import Difference
from tasks.run.estimate.estimator import Estimator
from tasks.run.plan import Plan, check_roots, opened, plan_again, planned_before, spool_spans
from tasks.run.preflight import inspect_job
from tasks.run.promotion.search_code import search_code
from tasks.run.seals.damage import damaged_documents
from tasks.run.seals.doubtful_files import refuse_doubtful
from tasks.run.seals.effective_seals import owned_keys, owned_seals, retained_seals, sealed_keys, sealed_shards, seals_of
from tasks.run.seals.seal_totals import count_seals
from tasks.run.seals.unaccounted_rows import clock_of, strangers
from tasks.run.seals.unplanned_shards import expected_removals
from tasks.stages.verify import Watched, unwatched


def look_at_plan(job: Job) -> dict[str, Any]:
    """The figures of a run to come: shards, rows, the sealed share, an estimate. Uses no GPU and writes nothing."""
    with scratch_folder() as scratch:
        inspected = inspect_job(job)
        plan = plan_again(inspected, scratch)
        if plan:
            check_roots(plan)
            refuse_doubtful(plan)
        estimator = Estimator(inspected, plan.spool if plan else spool_spans(inspected, scratch), plan)
        removals = {rule: removal.model_dump() for rule, removal in expected_removals(plan).items()} if plan else {}
        return estimator.figures(estimator.estimate()) | {"removals": removals}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a corpus, by its seals and ledger, and the target of its alias."""

    rows: RowCounts
    shards: ShardCounts
    verified: bool
    report: str | None
    quarantine: dict[str, int]
    collection: str | None = None
    alias: str = ""
    alias_target: str | None = None
    alias_error: str = ""  # why the target of the alias is unknown
    notes: tuple[str, ...] = ()  # findings from reading the rows
    model: str = ""  # how the model is used: prompts of rows and queries, preprocessing of pictures
    damaged: tuple[str, ...] = ()
    hosts: HostsOfRun | None = None  # of the newest run on a cluster
    code: str = ""  # Python code for applications to search the collection
    live: LiveRun | None = None  # the run in progress

    @property
    def searched(self) -> bool:
        """Whether the alias points to this collection."""
        return self.collection is not None and self.alias_target == self.collection

    @property
    def complete(self) -> bool:
        loaded = bool(self.shards.planned) and self.shards.loaded == self.shards.planned
        return not self.damaged and loaded and self.verified and self.searched

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON document that `status --json` prints."""
        return {
            "rows": self.rows.model_dump(),
            "shards": self.shards.model_dump(),
            "verified": self.verified,
            "searched": self.searched,
            "report": self.report,
            "damaged": list(self.damaged),
            "model": self.model,
            "notes": list(self.notes),
            "hosts": self.hosts.model_dump(mode="json") if self.hosts else None,
            "code": self.code,
            "live": self.live and self.live.model_dump(mode="json"),
        }


def look_at_status(job: Job) -> Status:
    """Sealed and loaded shards by the store, and the target of the alias. Rows of all runs count as embedded or cached."""
    with scratch_folder() as scratch:
        inspected = inspect_job(job)
        plan = plan_again(inspected, scratch)
        if plan is None:
            spool = spool_spans(inspected, scratch)
            nothing = RowCounts(source=spool.rows)
            shards = ShardCounts(planned=spool.shards)
            live = run_under_way(job)
            return Status(
                rows=nothing, shards=shards, verified=False, report=None, quarantine={}, model=inspected.model.description, live=live
            )
        damaged = damaged_documents(plan)
        totals = count_seals(plan, encoded_now={})
        proof = plan.checkpoint.read_proof(plan.target)
        alias_target, alias_error = _alias_target(plan)
        return Status(
            rows=totals.rows.model_copy(update={"embedded": totals.rows.reused - totals.cached, "reused": 0, "cached": totals.cached}),
            shards=ShardCounts(planned=plan.spool.shards, sealed=totals.sealed, loaded=totals.loaded),
            verified=bool(proof and proof.holds_for(totals.cover.digest, plan.target)),
            report=plan.checkpoint.latest_report(),
            quarantine=dict(totals.quarantine),
            collection=plan.spec.name,
            alias=plan.spec.alias,
            alias_target=alias_target,
            alias_error=alias_error,
            damaged=damaged,
            notes=tuple(map(str, totals.found.all())),
            model=inspected.model.description,
            hosts=newest_hosts(plan.checkpoint),
            code=search_code(inspected, plan.spec) if totals.loaded else "",
            live=run_under_way(job),
        )


def _alias_target(plan: Plan) -> tuple[str | None, str]:
    """The collection that the alias points to, or the error if that is unknown."""
    try:
        with opened(plan) as collection:
            return collection.target.resolve(plan.spec.alias), ""
    except KitestringError as error:
        return None, str(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDifferences:
    """The differences between the seals and the collection; the number of unsealed shards, and a line for each damaged document."""

    found: Iterator[Listed]
    unsealed: int
    damaged: tuple[str, ...]


@contextmanager
def look_at_diff(job: Job, *, full: bool = False, watched: Watched = unwatched) -> Iterator[ListedDifferences]:
    """The differences between the seals and the collection, shard by shard.

    Rows of files that are no longer in the source, which an append retains, are compared with their seals as well.

    Raises:
        BadInput: there is nothing to compare.
        Damaged: a part had to be read and is damaged.
    """
    with planned_before(job) as plan, opened(plan) as collection:
        if collection.describe() is None:
            raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.address}: `kitestring run` or `replay` loads it")
        damaged, sealed = damaged_documents(plan), plan.checkpoint.sealed_ids()
        differences = _every_difference(plan, collection, watched) if full else _differences(plan, collection)
        unsealed = sum(shard.id not in sealed for shard in plan)
        yield ListedDifferences(found=chain(differences, _unaccounted(plan, collection)), unsealed=unsealed, damaged=damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A key that only one side has, or whose row differs (`only_in` None). `kind`: see `tasks.domain.target.difference`, a field by name."""

    key: str
    shard: str
    only_in: Literal["source", "collection"] | None
    kind: str
    told: str = ""


_ONLY_IN: dict[str, Literal["source", "collection"]] = {"absent": "source", "extra": "collection", "unaccounted": "collection"}


def _listed(difference: Difference, name: str) -> Listed:
    told = f"held by shard {difference.held_by}" if difference.kind == "shard" else difference.told
    return Listed(key=difference.key, shard=name, only_in=_ONLY_IN.get(difference.kind), kind=difference.named, told=told)


def _differences(plan: Plan, collection: Collection) -> Iterator[Listed]:
    with owned_keys(plan) as shards:
        for seal, sealed in shards:
            present = set(collection.keys(seal.shard))
            yield from (Listed(key=key, shard=seal.name, only_in="source", kind="absent") for key in sorted(sealed - present))
            yield from (Listed(key=key, shard=seal.name, only_in="collection", kind="extra") for key in sorted(present - sealed))
    yield from _retained_differences(plan, collection)


def _retained_differences(plan: Plan, collection: Collection) -> Iterator[Listed]:
    """Differences of retained shards, except keys that a newer shard holds now."""
    known = {*(shard.id for shard in plan), *(seal.shard for seal in retained_seals(plan))}
    for seal in retained_seals(plan):
        if not seal.parts:  # the seal is gone; only the ledger has the shard
            continue
        sealed, present = sealed_keys(plan, seal), set(collection.keys(seal.shard))
        holders = collection.shards_of(sorted(sealed - present))
        lost = sorted(key for key in sealed - present if holders.get(key) not in known)
        if lost and has_chunks(plan.spec.fields):  # another shard may hold the document in a shorter form
            absent = taken_with_document(collection, (Difference(key=key, kind="absent", shard=seal.shard) for key in lost))
            lost = [each.key for each in absent if each.kind == "absent" or each.held_by not in known]
        yield from (Listed(key=key, shard=seal.name, only_in="source", kind="absent") for key in lost)
        yield from (Listed(key=key, shard=seal.name, only_in="collection", kind="extra") for key in sorted(present - sealed))


def _every_difference(plan: Plan, collection: Collection, watched: Watched) -> Iterator[Listed]:
    names = {seal.shard: seal.name for seal in chain(owned_seals(plan), retained_seals(plan))}
    rows = sum(seal.rows for seal in chain(owned_seals(plan), retained_seals(plan)))
    with sealed_shards(plan) as shards, watched(rows) as watch:
        counted = count_shards(collection, shards, Waiting(clock_of(collection, looking=True)))
        for difference in every_difference(collection, counted, names, watch, chunks=has_chunks(plan.spec.fields)):
            yield _listed(difference, names[difference.shard])


def _unaccounted(plan: Plan, collection: Collection) -> Iterator[Listed]:
    for key, shard in strangers(plan, collection):
        yield Listed(key=key, shard=shard, only_in="collection", kind="unaccounted")


def look_at_quarantine(job: Job) -> Iterator[dict[str, Any]]:
    """The quarantined rows, in plan order."""
    with planned_before(job) as plan:
        for seal in seals_of(plan):
            for row in seal.quarantined:
                yield {"shard": seal.name, "row": row.row, "id": row.id, "reason": row.reason}
