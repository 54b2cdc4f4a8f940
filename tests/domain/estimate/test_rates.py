"""How fast a machine is thought to be after what was seen of it."""

from __future__ import annotations

import pytest

from tasks.domain.estimate.intervals import Range
from tasks.domain.estimate.rates import OBSERVATIONS_KEPT, REST, STARTUP, Observation, Rates, rate_of, rate_of_parts


def seen(**changes: object) -> Observation:
    """A run of 1,000 rows of 50 tokens: 12 s of start-up, 10 s of encoding, 8 s of all else."""
    usual: dict[str, object] = {
        "kind": "run",
        "at": "2026-11-21T09:00:00+00:00",
        "rows": 1_000,
        "tokens": 50_000,
        "encode_seconds": 10,
        "startup_seconds": 12,
        "loaded": 1_000,
        "load_seconds": 2,
        "seconds": 30,
    }
    return Observation.model_validate(usual | changes)


def test_nothing_seen_is_no_rate() -> None:
    assert rate_of(Rates(), "tokens") is None
    assert rate_of(Rates(observations=(seen(rows=0, tokens=0),)), "rows") is None


def test_one_run_alone_is_trusted_to_a_quarter() -> None:
    rate = rate_of(Rates(observations=(seen(),)), "tokens")
    assert rate
    assert rate.per_second == Range(low=3_750, expected=5_000, high=6_250)
    assert rate.startup_seconds == Range(low=9, expected=12, high=15)
    assert rate.rest_seconds == Range(low=4, expected=8, high=12)
    assert rate.loaded_per_second == Range(low=375, expected=500, high=625)
    assert rate.origin == "one run of this corpus on such a machine, the last on 2026-11-21"


def test_several_runs_show_their_own_spread_and_long_ones_count_more() -> None:
    rate = rate_of(Rates(observations=(seen(), seen(rows=9_000, tokens=450_000, encode_seconds=60))), "tokens")
    assert rate
    assert rate.per_second.expected == pytest.approx(500_000 / 70)
    assert (rate.per_second.low, rate.per_second.high) == (5_000, pytest.approx(500_000 / 70 * 1.1))


def test_a_run_counts_before_a_dry_run_and_a_moment_is_hardly_trusted() -> None:
    dry = seen(kind="dry run", encode_seconds=5, seconds=0, loaded=0, load_seconds=0)
    alone = rate_of(Rates(observations=(dry,)), "rows")
    assert alone
    assert (alone.per_second.expected, alone.rest_seconds, alone.loaded_per_second) == (200, REST, None)
    both = rate_of(Rates(observations=(dry, seen())), "rows")
    assert both
    assert both.per_second.expected == 100
    moment = rate_of(Rates(observations=(seen(encode_seconds=0.5),)), "rows")
    assert moment
    assert moment.per_second == Range(low=1_000, expected=2_000, high=3_000)
    assert "of less than 2 s" in moment.origin


def test_the_newest_are_kept() -> None:
    rates = Rates()
    for rows in range(OBSERVATIONS_KEPT + 3):
        rates = rates.noting(seen(rows=rows))
    assert [observation.rows for observation in rates.observations] == list(range(3, OBSERVATIONS_KEPT + 3))


def test_sealed_parts_count_for_each_of_todays_processes() -> None:
    rate = rate_of_parts([(1_000, 10), (3_000, 10), (0, 0)], ranks=2, unit="tokens")
    assert rate
    assert rate.per_second == Range(low=200, expected=400, high=600)
    assert rate.startup_seconds == STARTUP
    assert rate_of_parts([], ranks=2, unit="tokens") is None
