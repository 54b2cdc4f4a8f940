"""Every fault by name. Each breaks something in a run of its trial and returns whether it struck before the run ended."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos import kills, places, servers, sweeps, troubles, worker
from tests.chaos.trial import Trial

FAULTS: dict[str, Callable[[Trial], bool]] = {
    "nothing": kills.nothing,
    "kill flow": kills.kill_flow,
    "kill guard": kills.kill_guard,
    "kill agent": kills.kill_agent,
    "kill rank": kills.kill_rank,
    "kill all ranks": kills.kill_ranks,
    "terminate flow": kills.terminate_flow,
    "two runs": servers.two_runs,
    "milvus dies": servers.milvus_dies,
    "milvus limits the rate": troubles.milvus_limits_the_rate,
    "milvus quota": troubles.milvus_quota,
    "milvus slow": troubles.milvus_slow,
    "dies before the ledger": servers.dies_before_the_ledger,
    "s3 errors": servers.s3(**{"500": 0.05, "503": 0.05, "slow_down": 0.05}),
    "s3 breaks off": servers.s3(drop_before=0.05, drop_after=0.05, **{"500_after": 0.05}),
    "s3 hangs": servers.s3(hang=0.02),
    "s3 refuses": servers.s3_refuses,
    "s3 without conditions": servers.s3_without_conditions,
    "upload torn": troubles.upload_torn,
    "source on s3": troubles.source_on_s3,
    "part damaged": places.part_damaged,
    "source changes": places.source_changes,
    "disk full": places.disk_full,
    "kill worker": worker.worker_dies,
    "kill prefect server": servers.prefect_server_dies,
    "cancelled": worker.cancelled,
    "machine replaced": places.machine_replaced,
    "clock jumps": places.clock_jumps,
    "gc beside a run": sweeps.gc_beside_a_run,
    "overlapping corpora": places.overlapping_corpora,
}
