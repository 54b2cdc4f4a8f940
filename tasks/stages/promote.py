"""Promote: searches are led to the collection once it is proved and the gate lets it through; old ones are dropped."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.domain.report.run_report import rows_wrong
from tasks.domain.target.promotion import Promotion, is_rejected, outdated, previous, unfinished
from tasks.domain.target.proof import Proof
from tasks.run.context import Run, utc_now
from tasks.run.plan import Plan, plan_again
from tasks.run.preflight import inspect_job, live_collection, open_target
from tasks.run.promotion.fewer_rows import why_smaller
from tasks.run.promotion.promotion_gate import Asked, ask_gate
from tasks.run.seals.seal_totals import count_seals
from tasks.stages.load import opened

By = Literal["run", "promote", "rollback"]


@task(name="promote", cache_policy=NO_CACHE)
def promote_proved(run: Run, plan: Plan, collection: Collection, proof: Proof) -> tuple[Asked, ...]:
    """Lead searches to the collection, where it is proved and nothing speaks against it; then drop what is outdated.

    Returns some of the questions that the gate asked, if it did.
    """
    if _fails(run, plan, proof):
        return ()
    with run.journal.during("promote"):
        moves = Promotions(plan.inspected.store, plan.job, plan.inspected.damages)
        outcome = _lead(plan, collection, moves)
        for line in outcome.told:
            run.journal.note(line)
        if outcome.live != outcome.before:
            run.journal.tell("collection.promoted", {"collection": outcome.live, "before": outcome.before})
        if outcome.refused:
            run.journal.note_refusal(f"searches are not led to '{plan.spec.name}': {outcome.refused}")
        for name in _drop_outdated(plan, moves, live=outcome.live):
            run.journal.note(f"'{name}' is dropped: out of use for more than target.grace, and beyond target.keep_previous")
        return outcome.asked


def _fails(run: Run, plan: Plan, proof: Proof) -> bool:
    """Whether the run ends as failed whatever becomes of the alias, so that it has to stay where it is."""
    if not proof.proved or run.journal.failed or run.journal.refusals:
        return True
    totals = count_seals(plan, encoded_now={})
    most = run.job.failures.max_quarantined
    return totals.loaded < plan.spool.shards or rows_wrong(totals.rows, totals.quarantine, most) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where searches were led before a promotion was tried and are after it, what there is to tell, and why not to the new one."""

    before: str | None
    live: str | None
    told: list[str]
    refused: str | None = None
    asked: tuple[Asked, ...] = ()


def _lead(plan: Plan, collection: Collection, moves: Promotions) -> Outcome:
    before, name = collection.promoted(), plan.spec.name
    history = moves.read(standing=_standing(plan, before))
    live = before
    if half_way := unfinished(history, live):  # a rollback that was killed in the middle
        _point(plan.job, half_way)
        live = half_way
    if live == name:
        return Outcome(before=before, live=live, told=[])
    by_hand = f"`kitestring promote` leads searches from '{live}' to it" if live else "`kitestring promote` leads searches to it"
    if live and moves.damaged and not is_rejected(history, name):
        moves.note(_move_back(plan, live))
        told = f"'{name}' is proved, and searches stay with '{live}': a move of the alias that cannot be read may have been a rollback"
        return Outcome(before=before, live=live, told=[f"{told}: {by_hand}"])
    if is_rejected(history, name):
        return Outcome(before=before, live=live, told=[f"'{name}' was rolled back, and stays so: {by_hand}"])
    if plan.job.target.promote == "manual":
        return Outcome(before=before, live=live, told=[f"'{name}' is proved, and target.promote is manual: {by_hand}"])
    return _pass_gate(plan, collection, moves, by="run")


def _pass_gate(plan: Plan, collection: Collection, moves: Promotions, *, by: By, anyway: bool = False) -> Outcome:
    live, name = collection.promoted(), plan.spec.name
    verdict = ask_gate(plan, collection, live)
    refused = verdict.refused or (why_smaller(plan, collection, live) if live and not anyway else None)
    if refused:
        return Outcome(before=live, live=live, told=verdict.told, refused=refused, asked=verdict.asked)
    moves.note(_move(plan, live, by))
    collection.promote()
    told = [*verdict.told, f"alias '{plan.spec.alias}' points to '{name}'"]
    return Outcome(before=live, live=name, told=told, asked=verdict.asked)


def _standing(plan: Plan, live: str | None) -> set[str]:
    """The identities of the plan's collection and of the one that is live."""
    return {plan.target, *([identity_of(plan.job, live)] if live else [])}


def identity_of(job: Job, name: str) -> str:
    """The identity of a collection at a job's target; "" where it has none."""
    collection = open_target(job, name)
    try:
        return collection.identity() or ""
    finally:
        collection.close()


def _move(plan: Plan, live: str | None, by: By) -> Promotion:
    spec = plan.spec
    return Promotion(
        collection=spec.name, ledger=plan.target, instead_of=live, by=by, fingerprint=spec.fingerprint, model=spec.model, at=utc_now()
    )


def _move_back(plan: Plan, live: str) -> Promotion:
    """What a move that cannot be read may have been: a rollback, which no run may undo. `promote` does."""
    return _move(plan, plan.spec.name, "rollback").model_copy(update={"collection": live, "fingerprint": "", "model": ""})


def _point(job: Job, name: str) -> None:
    collection = open_target(job, name)
    try:
        collection.promote()
    finally:
        collection.close()


def _drop_outdated(plan: Plan, moves: Promotions, *, live: str | None) -> list[str]:
    target, now = plan.job.target, dt.datetime.now(dt.UTC)
    history = moves.read(standing=_standing(plan, live))
    names = outdated(history, kept={live, plan.spec.name}, keep_previous=target.keep_previous, grace=target.grace, now=now)
    dropped: list[str] = []
    for name in names:
        collection = plan.inspected.open_target(name)
        try:
            dropped += [name] if collection.drop() else []
        finally:
            collection.close()
    return dropped


# By hand


def promote_by_hand(job: Job, *, anyway: bool = False) -> dict[str, Any]:
    """Lead searches to the collection of the job's encoder; the gate decides here as well.

    Args:
        job: names the alias and the encoder.
        anyway: also where the collection holds fewer rows than the one that it takes over from, or more were set aside.

    Raises:
        BadInput: there is no such collection, it is not proved as it stands, or the gate refuses it.
    """
    with scratch_folder() as scratch:
        plan = plan_again(inspect_job(job), scratch)
        if plan is None:
            raise BadInput(f"corpus '{job.corpus}' holds nothing made with this encoder: run the job first")
        with opened(plan) as collection:
            if collection.describe() is None:
                raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.uri}: `kitestring run` makes it")
            _refuse_unproved(plan)
            before = collection.promoted()
            if before == plan.spec.name:
                return _said(job, before, before, [])
            moves = Promotions(plan.inspected.store, job, plan.inspected.damages)
            outcome = _pass_gate(plan, collection, moves, by="promote", anyway=anyway)
    if outcome.refused:
        raise BadInput("; ".join([f"searches are not led to '{plan.spec.name}': {outcome.refused}", *outcome.told]))
    return _said(job, outcome.live, before, outcome.told)


def _refuse_unproved(plan: Plan) -> None:
    """A proof counts for the seals and the collection that it names, and for no others.

    Raises:
        BadInput: there is none, it found faults, or it is of other seals.
    """
    proof = plan.checkpoint.read_proof(plan.target)
    cure = "`kitestring run` or `kitestring verify` does that"
    if proof is None or not proof.proved:
        raise BadInput(f"collection '{plan.spec.name}' is not proved: {cure}")
    totals = count_seals(plan, encoded_now={})
    if not proof.holds_for(totals.cover.digest, plan.target) or totals.loaded < totals.sealed:
        raise BadInput(f"collection '{plan.spec.name}' is not proved as it stands: shards were sealed or changed since its proof: {cure}")


def roll_back(job: Job) -> dict[str, Any]:
    """Lead searches back to the collection before. No run leads them to the one they leave: only `promote` does.

    Raises:
        BadInput: no earlier collection is there.
    """
    moves = Promotions(open_store(job.checkpoint), job)
    live = live_collection(job)
    for name in previous(moves.read(standing=[identity_of(job, live)] if live else ()), live):
        collection = open_target(job, name)
        try:
            made = collection.describe()
            if made is not None:
                by: By = "rollback"
                told = {"ledger": collection.identity() or "", "fingerprint": made.fingerprint, "model": made.model, "at": utc_now()}
                moves.note(Promotion.model_validate({"collection": name, "instead_of": live, "by": by, **told}))
                collection.promote()
                return _said(job, name, live, [])
        finally:
            collection.close()
    raise BadInput(
        f"'{job.target.collection}' leads to '{live}', and no earlier collection of corpus '{job.corpus}' is there to go back to"
    )


def _said(job: Job, live: str | None, before: str | None, told: list[str]) -> dict[str, Any]:
    return {"alias": job.target.collection, "collection": live, "before": before, "told": told}
