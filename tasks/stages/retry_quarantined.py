"""Quarantine: retry only the quarantined rows."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan
from tasks.stages.encode import encode_group, worth_another_try


@task(name="retry", task_run_name=name_runs("retry"), cache_policy=NO_CACHE, retry_delay_seconds=5, retry_condition_fn=worth_another_try)
def retry_shards(run: Run, plan: Plan, group: list[Shard]) -> None:
    """Retry the quarantined rows of each sealed shard; recovered rows are recorded as an amendment of the seal.

    Raises:
        Permanent: the first permanent failure of a shard, raised after all others were tried.
        Transient: a retry may succeed.
    """
    with run.journal.during("encode"):
        encode_group(run, plan, group, rows="quarantined")


def recover(run: Run, plan: Plan, shard: Shard) -> None:
    """Retry the quarantined rows of a shard, if it is sealed and has any.

    Raises:
        Permanent: its rows cannot be read again.
    """
    run.engine.encode(ShardGroup(shards=(shard,), record=plan.record, attempt=run.id, rows="quarantined"))
