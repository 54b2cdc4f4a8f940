"""Imports of a sealed job, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from tasks.adapters.targets.memory_collection import memory_servers
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.run.context import Run, open_run
from tasks.run.plan import Plan, opened
from tasks.stages.bulk_import import import_shards, imports
from tasks.stages.plan_shards import plan_sealed

ROWS = 90
ODD = {7: None, 10: math.nan}  # doubles that Milvus' importer refuses, by row of a shard; infinity is set aside before


class Killed(BaseException):
    """What no `except` catches on the way: the process is gone."""


@dataclass(frozen=True, slots=True)
class Opened:
    run: Run
    plan: Plan
    collection: Collection

    def load(self) -> bool:
        """Import as a flow does; whether the collection was there afterwards."""
        if imports(self.plan, self.collection):
            import_shards.fn(self.run, self.plan, self.collection)
        return self.collection.describe() is not None

    @property
    def ledger(self) -> int:
        return len(list(self.plan.checkpoint.loads(self.plan.target)))


@contextmanager
def opening(document: dict[str, Any], target: dict[str, Any]) -> Iterator[Opened]:
    with open_run(Job.model_validate({**document, "target": target})) as run:
        plan = plan_sealed.fn(run)
        with opened(plan) as collection:
            yield Opened(run, plan, collection)


def left_behind(target: dict[str, Any]) -> list[str]:
    """Collections of attempts, and staged files."""
    if target["uri"].startswith("memory://"):
        server = memory_servers[target["uri"]]
        return [name for name in server.specs if "_import_" in name] + list(server.staged)
    client = MilvusClient(target["uri"])
    try:
        names = [name for name in client.list_collections() if name.startswith(target["collection"]) and "_import_" in name]
    finally:
        client.close()
    return names + [str(path) for path in Path(target["staging"]).rglob("*.parquet")]
