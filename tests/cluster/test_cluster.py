"""A Ray cluster on machines of its own: it loses hosts, and takes them back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.engines import RAY
from tests.cluster.machines import HUB, Machines

pytest.importorskip("ray", reason="the extra `ray` is not installed")
ASK = """
import socket, ray, ray.util.scheduling_strategies
ray.init("auto", logging_level="ERROR")
on = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
where = ray.remote(num_cpus=0)(lambda: socket.gethostname())
print(",".join(sorted(ray.get([where.options(scheduling_strategy=place(node, soft=False)).remote() for node in on]))))
"""


def hosts_of(cluster: Cluster) -> str:
    """The hosts on which a program of the hub runs."""
    return cluster.net.run(HUB, [sys.executable, "-c", ASK], cluster.env).split()[-1]


def test_a_host_that_is_lost_is_missed_and_comes_back(net: Machines, tmp_path: Path) -> None:
    cluster = Cluster(net, tmp_path)
    RAY.start_head(cluster)
    for host in ("h1", "h2"):
        cluster.join(host)
    assert hosts_of(cluster) == "h1,h2"

    net.lose("h1")
    assert cluster.kill("h2", "raylet/raylet") == 1
    cluster.wait(lambda: len(alive(cluster)) == 1, "both are missed", 60)
    net.back("h1")
    cluster.join("h1")
    assert hosts_of(cluster) == "h1"


def alive(cluster: Cluster) -> list[str]:
    """Addresses of the nodes that the head believes in."""
    ask = "import ray; ray.init('auto', logging_level='ERROR'); print(*(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
    return cluster.net.run(HUB, [sys.executable, "-c", ask], cluster.env).split()
