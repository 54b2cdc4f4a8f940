"""One job on a Ray cluster ends with the same collection from one host and from two, whatever is lost in between.

The long series is `python -m tests.cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import cluster
from tests.cluster.machines import unavailable
from tests.cluster.trials import Trials

pytest.importorskip("tasks.adapters.engines.ray_engine", reason="the extra `ray` is not installed", exc_type=ImportError)
pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
HOSTS = ("h1", "h2")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """A cluster whose one host has embedded the corpus undisturbed."""
    if reason := unavailable():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("cluster"), HOSTS) as made:
        trials = Trials(made)
        trials.learn()
        yield trials


def test_two_hosts_of_which_one_loses_its_power_make_what_one_host_makes(trials: Trials) -> None:
    outcome = trials.play("lose host", 1)
    assert not outcome.failed, outcome


def test_no_rank_outlives_a_driver_that_is_killed_and_the_next_run_adopts_what_hosts_sealed(trials: Trials) -> None:
    outcome = trials.play("kill driver", 1)
    assert not outcome.failed, outcome
