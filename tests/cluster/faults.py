"""What breaks in the middle of a run on several machines. `heal` puts all right again, whatever was broken."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tests.builders.held_model import SLOW
from tests.cluster.cluster import Cluster
from tests.cluster.engines import RAY, OnMachines
from tests.cluster.machines import HOSTS, HUB

GONE_SECONDS = 30.0  # in which every rank of a run is gone that nobody leads any more
CUT_SECONDS = 60.0  # the same behind a cable that is pulled
DRIVER = ("-m flows run", "prefect.flow_engine", "prefect.engine", "flow-run execute")


class Run(Protocol):
    """A process, or what stands for one."""

    returncode: int | None

    def poll(self) -> int | None: ...


@dataclass(kw_only=True)
class Strike:
    """A run under way, and the host that is to suffer."""

    cluster: Cluster
    engine: OnMachines
    run: Run
    victim: str
    draw: Random

    def until_gone(self, ranks: list[int], seconds: float = GONE_SECONDS) -> float:
        """Until these processes are; seconds."""
        return self.cluster.wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks), "ranks are gone", seconds + 10)

    def kill_there(self, *texts: str) -> float:
        """On the victim; seconds until its ranks are gone."""
        ranks = self.cluster.ranks(self.victim)
        assert self.cluster.kill(self.victim, *texts), f"nothing of {texts} on {self.victim}"
        return self.until_gone(ranks)


def nothing(_strike: Strike) -> float:
    return 0.0


def kill_host(strike: Strike) -> float:
    """The process that leads a host's ranks."""
    return strike.kill_there(*strike.engine.host)


def kill_node(strike: Strike) -> float:
    """The engine's node: a raylet, or a Dask worker with its nanny."""
    return strike.kill_there(*strike.engine.node)


def lose_host(strike: Strike) -> float:
    """A power cut, for as long as the run lasts."""
    strike.cluster.net.lose(strike.victim)
    return 0.0


def cut_and_mend(strike: Strike) -> float:
    """The cable, for long enough that the others give the host up, and it finishes late."""
    ranks = strike.cluster.ranks(strike.victim)
    strike.cluster.net.cut(strike.victim)
    long = strike.draw.random() < 0.5
    gone = strike.until_gone(ranks, CUT_SECONDS) if long else 0.0
    time.sleep(0 if long else 20)
    strike.cluster.net.mend(strike.victim)
    return gone


def kill_head(strike: Strike) -> float:
    """With what it runs on its machine; back after a while, as an operator or Kubernetes has it back."""
    assert strike.cluster.kill(HUB, *strike.engine.head)
    time.sleep(strike.draw.uniform(2, 10))
    if strike.engine is not RAY:  # what Ray's head knew is gone with it: its driver ends, and the next run needs another
        heal(strike.cluster)
    return 0.0


def kill_driver(strike: Strike) -> float:
    assert strike.cluster.kill(HUB, *DRIVER)
    return 0.0


def end_driver(strike: Strike) -> float:
    """As systemd or a pod's end does."""
    assert strike.cluster.kill(HUB, *DRIVER, by=signal.SIGTERM)
    return 0.0


def cancel(strike: Strike) -> float:
    run: Any = strike.run
    run.cancel()
    return 0.0


def silence_s3(strike: Strike) -> float:
    answer = strike.cluster.pause_s3()
    time.sleep(20)
    answer()
    return 0.0


def refuse_s3(strike: Strike) -> float:
    strike.cluster.refuse_s3()
    time.sleep(20)
    strike.cluster.resume_s3()
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A kind. `least`: hosts that the cluster has to have; `is_end`: the run may end with it, and the next one finishes; `all_hosts`: the run
    has all of the cluster's; `loads`: hosts load (`target.load_from`), and it comes once one of them does."""

    strike: Callable[[Strike], float] = nothing
    least: int = 2
    is_end: bool = False
    all_hosts: bool = False
    loads: bool = False
    limit: float = GONE_SECONDS


FAULTS: dict[str, Fault] = {
    "none": Fault(least=1),
    "kill host process": Fault(strike=kill_host),
    "kill node": Fault(strike=kill_node),
    "lose host": Fault(strike=lose_host),
    "cut and mend": Fault(strike=cut_and_mend, limit=CUT_SECONDS),
    "kill head": Fault(strike=kill_head, least=1, is_end=True, limit=CUT_SECONDS),
    "kill driver": Fault(strike=kill_driver, least=1, is_end=True),
    "SIGTERM to the driver": Fault(strike=end_driver, least=1, is_end=True),
    "cancel in the UI": Fault(strike=cancel, least=1, is_end=True),
    "S3 silent for 20 s": Fault(strike=silence_s3, least=1, is_end=True),
    "host joins": Fault(all_hosts=True),
    "kill a host that loads": Fault(strike=kill_host, loads=True),
    "S3 refusing for 20 s": Fault(strike=refuse_s3, least=1, is_end=True),
    "slow host": Fault(all_hosts=True),
    "other weights": Fault(all_hosts=True),
    "two drivers": Fault(least=1),
}


def heal(cluster: Cluster, *, broken: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> None:
    """Nothing of a run is left, every machine is up and reached, and every head and node is there. `broken`: hosts that are booted anew."""
    cluster.resume_s3()
    lost = [engine for engine in cluster.engines if not engine.is_up(cluster, HUB)]
    for engine in lost:
        cluster.wait(lambda e=engine: not cluster.kill(HUB, *e.all), f"{engine.kind} is gone from the hub", 30)  # type: ignore[misc]
        engine.start_head(cluster)
    joining = list[str]()
    for host in hosts or cluster.hosts:
        cluster.net.mend(host)
        up = cluster.net.is_up(host) and all(engine.is_up(cluster, host) for engine in cluster.engines)
        if lost or host in broken or not up:
            cluster.net.lose(host)
            cluster.net.back(host)  # by this thread, with which it ends
            joining.append(host)
        with contextlib.suppress(AssertionError):
            cluster.net.run(host, ["rm", "-f", SLOW])
    with ThreadPoolExecutor(len(HOSTS)) as threads:
        list(threads.map(cluster.join, joining))
