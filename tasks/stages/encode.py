"""Encode: the run's engine seals groups of shards; only Prefect retries a group after a transient error."""

from __future__ import annotations

import secrets
from collections.abc import Container
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.errors import OutcomeUnknown, Permanent, Transient
from tasks.domain.shards.resume import missing
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan


def worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether Prefect should retry a task: only after a transient error. A plain function: with a bound one Prefect never retries."""
    return isinstance(state.result(raise_on_failure=False), Transient | OutcomeUnknown)


@task(
    name="encode",
    task_run_name=name_runs("encode"),
    cache_policy=NO_CACHE,
    retry_delay_seconds=5,
    retry_condition_fn=worth_another_try,
)
def encode_shards(run: Run, plan: Plan, group: list[Shard]) -> None:
    """Seal every shard of a group that is not sealed yet. A failed shard does not stop the others.

    Raises:
        Permanent: the first permanent failure of a shard, raised after all others are sealed.
        Transient: a retry may succeed; sealed shards stay sealed.
    """
    with run.journal.during("encode"), run.journal.emitting(group):
        encode_group(run, plan, group)


def encode_group(run: Run, plan: Plan, group: list[Shard], *, rows: Literal["all", "quarantined"] = "all") -> None:
    """Encode a group with the run's engine; the journal gets the outcome of each shard (`tasks.run.encoding_notes`).

    Raises:
        Permanent: a shard failed permanently; names the first of them.
        Transient: a retry may succeed.
    """
    try:
        run.engine.encode(ShardGroup(shards=tuple(group), record=plan.record, attempt=run.id, donors=plan.donors, rows=rows))
    except Permanent as error:
        first = next((run.journal.failed[shard.id] for shard in group if shard.id in run.journal.failed), None)
        raise Permanent(f"{first[0]}: {first[1]}" if first else str(error)) from error


def ask_served_model(run: Run, plan: Plan, loaded: Container[str]) -> None:
    """Check, if the model is served and there is something to encode, that it is the model of the corpus' first run.

    Args:
        run: the run.
        plan: its plan.
        loaded: shards for which there is nothing to do.

    Raises:
        BadInput: it is another model, or the server does not answer; nothing was written.
    """
    if plan.record.facts.server and next(missing(missing(plan, loaded), plan.checkpoint.sealed_ids()), None):
        run.engine.facts()


def seal_again(run: Run, plan: Plan, shard: Shard) -> None:
    """Encode the missing parts of a shard whose seal was withdrawn, and seal it.

    Under an attempt of its own, because a key that was sealed or condemned is never used again (see `tasks.adapters.checkpoint.condemned`).

    Raises:
        Permanent: the shard cannot be sealed.
    """
    run.engine.encode(ShardGroup(shards=(shard,), record=plan.record, attempt=f"{run.id}-{secrets.token_hex(4)}", donors=plan.donors))
