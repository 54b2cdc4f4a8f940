"""Every fault by name: what it breaks in a run of its trial, and how it goes together with others."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos import cached, changes, ghosts, kills, places, servers, sweeps, taken_over, troubles, worker
from tests.chaos.trial import Trial

Strike = Callable[[Trial], bool]
# between: something changes between two runs; start: how a run is started, or what is around it from its start to its end;
# during: at a moment of a run that is under way; alone: see `why`
How = Literal["between", "start", "during", "alone"]
Target = Literal["any", "lite", "server", "proxy"]
ORDER = {"between": 0, "start": 1, "during": 2}
DEMANDS = {"any": 0, "lite": 1, "server": 1, "proxy": 2}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`strike` breaks something and returns whether it hit a run before that ended. `on`: the target that it needs."""

    strike: Strike
    how: How
    on: Target = "any"
    why: str = ""  # it goes with no other


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two faults of one trial."""

    first: str
    second: str

    @property
    def name(self) -> str:
        return f"{self.first} + {self.second}"

    @property
    def on(self) -> Target:
        return max((FAULTS[self.first].on, FAULTS[self.second].on), key=lambda on: DEMANDS[on])


def _during(strike: Strike, on: Target = "any") -> Fault:
    return Fault(strike=strike, how="during", on=on)


def _start(strike: Strike, on: Target = "any") -> Fault:
    return Fault(strike=strike, how="start", on=on)


def _between(strike: Strike, on: Target = "any") -> Fault:
    return Fault(strike=strike, how="between", on=on)


def _alone(strike: Strike, why: str) -> Fault:
    return Fault(strike=strike, how="alone", why=why)


SHARES = "another corpus fills a cache before, and what the run encodes depends on it"
ANEW = "it writes the whole source anew, and counts what the next run encodes"
PLAYED = "it plays flows in the process of the chaos itself, which nothing can be done to"
FAULTS: dict[str, Fault] = {
    "nothing": _alone(kills.nothing, "it is none"),
    "kill flow": _during(kills.kill_flow),
    "kill guard": _during(kills.kill_guard),
    "kill agent": _during(kills.kill_agent),
    "kill rank": _during(kills.kill_rank),
    "kill all ranks": _during(kills.kill_ranks),
    "terminate flow": _during(kills.terminate_flow),
    "two runs": _during(servers.two_runs, "server"),
    "milvus dies": _during(servers.milvus_dies, "server"),
    "milvus limits the rate": _start(troubles.milvus_limits_the_rate, "proxy"),
    "milvus quota": _start(troubles.milvus_quota, "proxy"),
    "milvus slow": _start(troubles.milvus_slow, "proxy"),
    "dies before the ledger": _during(ghosts.dies_before_the_ledger),
    "acknowledged, then rows left": _during(ghosts.acknowledged_then_rows_left),
    "s3 errors": _start(servers.s3(**{"500": 0.05, "503": 0.05, "slow_down": 0.05})),
    "s3 breaks off": _start(servers.s3(drop_before=0.05, drop_after=0.05, **{"500_after": 0.05})),
    "s3 hangs": _start(servers.s3(hang=0.02)),
    "s3 refuses": _during(servers.s3_refuses),
    "s3 without conditions": _alone(servers.s3_without_conditions, "nothing runs that another fault could hit"),
    "upload torn": _start(troubles.upload_torn),
    "source on s3": _alone(troubles.source_on_s3, "the other faults change the source where it is on disk"),
    "part damaged": _between(changes.part_damaged),
    "seal damaged": _between(changes.seal_damaged),
    "ledger damaged": _between(changes.ledger_damaged),
    "amendment damaged": _between(changes.amendment_damaged),
    "row altered": _between(changes.row_altered),
    "address spelled otherwise": _between(changes.address_spelled_otherwise),
    "proof failed, then rows left": _between(changes.proof_failed_then_rows_left),
    "daily append": _between(changes.daily_append),
    "replay after a file left": _between(changes.replay_after_a_file_left),
    "second encoder": _between(changes.second_encoder_sets_all_aside),
    "source changes": _during(places.source_changes),
    "disk full": _start(places.disk_full),
    "kill worker": _start(worker.worker_dies),
    "kill prefect server": _start(servers.prefect_server_dies),
    "cancelled": _start(worker.cancelled, "proxy"),
    "machine replaced": _during(places.machine_replaced),
    "clock jumps": _start(places.clock_jumps),
    "gc beside a run": _alone(sweeps.gc_beside_a_run, "it holds a run of its own and a sweep at one moment"),
    "overlapping corpora": _alone(ghosts.overlapping_corpora, "the proof of either run may fail, so that no end of a run tells anything"),
    "two imports": _during(ghosts.two_imports, "server"),
    "pictures come and go": _alone(ghosts.pictures_come_and_go, PLAYED),
    "killed while vectors are taken over": _alone(taken_over.killed_while_vectors_are_taken_over, ANEW),
    "cache entries poisoned": _alone(cached.entries_poisoned, SHARES),
    "cache dies": _alone(cached.cache_dies, SHARES),
    "old part damaged": _alone(taken_over.old_part_damaged, ANEW),
    "files come and go": _alone(ghosts.files_come_and_go, PLAYED),
}
BY_A_WORKER = {"kill worker", "cancelled"}
NEEDS_A_FRESH_COLLECTION = {"two imports", "dies before the ledger", "acknowledged, then rows left"}
LAST_RUN_IS_A_REPLAY = {"replay after a file left"}
SAME_PLACE = [{"address spelled otherwise", name} for name, fault in FAULTS.items() if fault.on == "proxy"]
DAMAGED = {"part damaged", "seal damaged", "ledger damaged", "amendment damaged"}
STAYS_WITHOUT_A_FILE = {"daily append", "replay after a file left", "address spelled otherwise"}
LEAVES_THE_SOURCE = {
    "source changes",
    "daily append",
    "address spelled otherwise",
    "proof failed, then rows left",
    "acknowledged, then rows left",
}


def why_not(one: str, other: str) -> str:
    """Why two faults do not go together in one trial; empty where they do."""
    a, b = FAULTS[one], FAULTS[other]
    names = {one, other}
    if alone := next((FAULTS[name] for name in (one, other) if FAULTS[name].how == "alone"), None):
        return alone.why
    if a.how == b.how == "start":
        return "each decides how the run is started and what is around it"
    if names & BY_A_WORKER and "during" in (a.how, b.how):
        return "a worker's run is another process than those that the other fault looks for"
    if names & NEEDS_A_FRESH_COLLECTION and "between" in (a.how, b.how):
        return "one needs a collection that is not there yet, the other one that is proved"
    if names & LAST_RUN_IS_A_REPLAY and "between" in (a.how, b.how) and names & (LEAVES_THE_SOURCE | {"part damaged", "second encoder"}):
        return "a replay neither encodes nor reads what the other one changes"
    if names & LAST_RUN_IS_A_REPLAY and b.how != a.how:
        return "a replay has no encoder to hit" if names - LAST_RUN_IS_A_REPLAY <= ENCODES else ""
    return _why_not_of_what_changes(names)


def _why_not_of_what_changes(names: set[str]) -> str:
    if names & NOTHING_TO_ENCODE and names & HITS_ENCODING:
        return "the run after the change has nothing to encode"
    if names in SAME_PLACE:
        return "the proxy is the one address of its collection"
    if names & DAMAGED and names & STAYS_WITHOUT_A_FILE:
        return "what has no file any more cannot be encoded again"
    if len(names & LEAVES_THE_SOURCE) == 2:
        return "both change the same files, and what has to stay would be the order's"
    return ""


HITS_ENCODING = {"kill guard", "kill agent", "kill rank", "kill all ranks", "disk full", "upload torn"}
NOTHING_TO_ENCODE = {"row altered", "ledger damaged", "amendment damaged", "second encoder"}
ENCODES = {"kill guard", "kill agent", "kill rank", "kill all ranks", "source changes", "disk full", "upload torn", *BY_A_WORKER}


def draw_pair(seed: int) -> Pair:
    """Two that go together, in the order in which they strike."""
    rng = random.Random(f"pair {seed}")
    while True:
        one, other = sorted(rng.sample(sorted(FAULTS), 2), key=lambda name: ORDER.get(FAULTS[name].how, 9))
        if not why_not(one, other):
            return Pair(first=one, second=other)
