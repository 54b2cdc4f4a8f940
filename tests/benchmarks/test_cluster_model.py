"""The model of a cluster: it loses nothing, says what losses cost, and names what is reached first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.adapters.engines.cluster_hosts.fleet import groups_at_once
from tasks.adapters.engines.cluster_hosts.host_seat import ASK_SECONDS, MOST_LOOKS, seconds_between_looks
from tasks.adapters.engines.remote_host import SILENCE_SECONDS
from tasks.domain.encoding.work_division import MOST_SHARDS, TAKES_AT_ONCE
from tasks.domain.shards.task_groups import MOST_IN_GROUP
from tests.benchmarks.cluster import LOADS, MILLISECONDS, bottleneck, drive_loads, sleeping_spec
from tests.benchmarks.cluster_model import Driver, Scene, simulate

DRIVER = Driver(take=0.002, shard=0.001, report=0.002)
SCENE = Scene(hosts=100, shards=5_000, driver=DRIVER)


def test_hosts_that_none_is_lost_of_end_together() -> None:
    course = simulate(SCENE)
    assert course.efficiency > 0.95
    assert not course.lost
    assert not course.repeated


@pytest.mark.parametrize("seed", range(3))
def test_a_lost_host_costs_what_it_had_not_stored(seed: int) -> None:
    course = simulate(replace(SCENE, lost_every=20.0, seed=seed))
    assert course.lost > 2
    assert course.repeated <= course.lost * SCENE.unsaved
    assert course.efficiency > 0.9


def test_a_course_depends_on_its_seed_alone() -> None:
    scene = replace(SCENE, lost_every=30.0)
    assert simulate(scene) == simulate(scene)


def test_a_driver_that_is_too_slow_is_seen_and_named() -> None:
    scene, slow = replace(SCENE, hosts=50, shards=1_000), replace(DRIVER, shard=0.1)
    assert simulate(replace(scene, driver=slow)).efficiency < 0.75 < 0.9 < simulate(scene).efficiency
    assert "the driver's thread" in bottleneck(replace(scene, rate=160_000.0), slow)
    assert "first bound by nothing but the hosts;" in bottleneck(replace(scene, hosts=1, rate=1_000.0), DRIVER)


def test_hosts_that_load_lift_the_bound_of_the_client_and_not_the_servers() -> None:
    by_flow, by_hosts = (bottleneck(SCENE, replace(DRIVER, row=3e-6), loads) for loads in LOADS)
    assert "the flow as the server's client at 333,333 rows/s (target.load_from: hosts)" in by_flow
    assert "client" not in by_hosts
    assert "first bound by a server as it was measured at 22,400 rows/s" in by_flow
    assert "first bound by a server as it was measured at 22,400 rows/s" in by_hosts


def test_the_flows_window_holds_enough_for_a_thousand_hosts() -> None:
    """Where it does not, hosts wait for groups of which others hold the last shards: with takes of 50 they worked 44% of the time."""
    assert groups_at_once(1_000) * MOST_IN_GROUP >= 1_000 * TAKES_AT_ONCE * MOST_SHARDS


def test_a_thousand_hosts_are_looked_at_less_often_and_each_still_several_times_before_it_is_given_up() -> None:
    assert seconds_between_looks(10, SILENCE_SECONDS) == ASK_SECONDS
    assert 1_000 / seconds_between_looks(1_000, SILENCE_SECONDS) <= 2 * MOST_LOOKS
    assert seconds_between_looks(10_000, SILENCE_SECONDS) <= SILENCE_SECONDS / 6


def test_hosts_that_sleep_answer_as_hosts_do(tmp_path: Path) -> None:
    assert drive_loads(sleeping_spec(tmp_path), 20)[MILLISECONDS] > 0
