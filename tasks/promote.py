"""Promote: searches are led to the collection once it is proved and the gate lets it through; old ones are dropped."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.promotions import Promotions
from tasks.adapters.spool import Spool
from tasks.adapters.stores import open_store
from tasks.domain.errors import BadInput
from tasks.domain.job import Job
from tasks.domain.ports import Collection
from tasks.domain.promotion import Promotion, is_rejected, outdated, previous, unfinished
from tasks.domain.proof import Proof
from tasks.domain.shrink import why_not_to_shrink
from tasks.gate import Asked, ask_gate
from tasks.load import opened
from tasks.plan import Plan
from tasks.preflight import live_collection, locate_job, open_target
from tasks.run import Run, utc_now

By = Literal["run", "promote", "rollback"]


@task(name="promote", cache_policy=NO_CACHE)
def promote_proved(run: Run, plan: Plan, collection: Collection, proof: Proof) -> tuple[Asked, ...]:
    """Lead searches to the collection, where it is proved and nothing speaks against it; then drop what is outdated.

    Returns some of the questions that the gate asked, if it did.
    """
    if not proof.proved or run.journal.failed:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where searches were led before a promotion was tried and are after it, what there is to tell, and why not to the new one."""

    before: str | None
    live: str | None
    told: list[str]
    refused: str | None = None
    asked: tuple[Asked, ...] = ()


def _lead(plan: Plan, collection: Collection, moves: Promotions) -> Outcome:
    before, name, history = collection.promoted(), plan.spec.name, moves.read()
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


def _pass_gate(plan: Plan, collection: Collection, moves: Promotions, *, by: By) -> Outcome:
    live, name = collection.promoted(), plan.spec.name
    verdict = ask_gate(plan, collection, live)
    refused = verdict.refused or (_why_smaller(plan, collection, live) if live else None)
    if refused:
        return Outcome(before=live, live=live, told=verdict.told, refused=refused, asked=verdict.asked)
    moves.note(_move(plan, live, by))
    collection.promote()
    told = [*verdict.told, f"searches of '{plan.spec.alias}' are led to '{name}'"]
    return Outcome(before=live, live=name, told=told, asked=verdict.asked)


def _why_smaller(plan: Plan, collection: Collection, live: str) -> str | None:
    """A mirror that lost its source must not lose it with a new encoder either."""
    if plan.job.target.mode != "mirror":
        return None
    serving = open_target(plan.job, live)
    try:
        before, now = serving.count() if serving.describe() else 0, collection.count()
    finally:
        serving.close()
    return why_not_to_shrink(plan.job.target, leaving=max(0, before - now), staying=now)


def _move(plan: Plan, live: str | None, by: By) -> Promotion:
    spec = plan.spec
    return Promotion(collection=spec.name, instead_of=live, by=by, fingerprint=spec.fingerprint, model=spec.model, at=utc_now())


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
    names = outdated(moves.read(), kept={live, plan.spec.name}, keep_previous=target.keep_previous, grace=target.grace, now=now)
    dropped: list[str] = []
    for name in names:
        collection = plan.inspected.open_target(name)
        try:
            dropped += [name] if collection.drop() else []
        finally:
            collection.close()
    return dropped


# By hand


def promote_by_hand(job: Job) -> dict[str, Any]:
    """Lead searches to the collection of the job's encoder; the gate decides here as well.

    Raises:
        BadInput: there is no such collection, it is not proved, or the gate refuses it.
    """
    inspected = locate_job(job)
    record = inspected.pinned()
    if record is None:
        raise BadInput(f"corpus '{job.corpus}' holds nothing made with this encoder: run the job first")
    plan = Plan(inspected, Spool.empty(), record)
    proof = plan.checkpoint.read_proof(plan.target)
    with opened(plan) as collection:
        if collection.describe() is None:
            raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.uri}: `kitestring run` makes it")
        if proof is None or not proof.proved:
            unproved = f"collection '{plan.spec.name}' is not proved: `kitestring run` or `kitestring verify` does that"
            raise BadInput("; ".join([unproved, *inspected.damages.lines]))
        before = collection.promoted()
        if before == plan.spec.name:
            return _said(job, before, before, [])
        outcome = _pass_gate(plan, collection, Promotions(inspected.store, job, inspected.damages), by="promote")
    if outcome.refused:
        raise BadInput("; ".join([f"searches are not led to '{plan.spec.name}': {outcome.refused}", *outcome.told]))
    return _said(job, outcome.live, before, outcome.told)


def roll_back(job: Job) -> dict[str, Any]:
    """Lead searches back to the collection before. No run leads them to the one they leave: only `promote` does.

    Raises:
        BadInput: no earlier collection is there.
    """
    moves = Promotions(open_store(job.checkpoint), job)
    live = live_collection(job)
    for name in previous(moves.read(), live):
        collection = open_target(job, name)
        try:
            made = collection.describe()
            if made is not None:
                by: By = "rollback"
                moves.note(Promotion(collection=name, instead_of=live, by=by, fingerprint=made.fingerprint, model=made.model, at=utc_now()))
                collection.promote()
                return _said(job, name, live, [])
        finally:
            collection.close()
    raise BadInput(
        f"'{job.target.collection}' leads to '{live}', and no earlier collection of corpus '{job.corpus}' is there to go back to"
    )


def _said(job: Job, live: str | None, before: str | None, told: list[str]) -> dict[str, Any]:
    return {"alias": job.target.collection, "collection": live, "before": before, "told": told}
