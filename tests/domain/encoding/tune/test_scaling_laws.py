"""The laws of Amdahl and Gustafson are fitted to what was measured."""

from __future__ import annotations

import pytest

from tasks.domain.encoding.tune.scaling_laws import ScalePoint, ScalingResult, amdahl, amdahl_share, gustafson, gustafson_share

RANKS = (1, 2, 4, 8, 16)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_share_is_found_again_from_the_speed_ups_that_it_makes(share: float) -> None:
    assert amdahl_share([(n, amdahl(share, n)) for n in RANKS]) == pytest.approx(share)
    assert gustafson_share([(n, gustafson(share, n)) for n in RANKS]) == pytest.approx(share)


def test_one_point_fits_every_share() -> None:
    assert amdahl_share([(1, 1.0)]) is None
    assert gustafson_share([(1, 1.0)]) is None


def test_more_than_ideal_is_no_negative_share() -> None:
    assert amdahl_share([(1, 1.0), (2, 2.2)]) == 0.0
    assert gustafson_share([(1, 1.0), (2, 2.2)]) == 0.0


def test_speed_ups_are_over_one_rank() -> None:
    alone = ScalePoint(ranks=1, threads=1, rows=100, seconds=10.0, grown_rows=100, grown_seconds=10.0)
    two = ScalePoint(ranks=2, threads=1, rows=100, seconds=6.0, grown_rows=200, grown_seconds=11.0)
    result = ScalingResult(corpus="c", machine="m", device="cpu", points=(alone, two))
    assert result.speed_ups == [(1, 1.0), (2, pytest.approx(10 / 6))]
    assert result.grown_speed_ups == [(1, 1.0), (2, pytest.approx(20 / 11))]
    assert result.amdahl == pytest.approx(0.2)
    assert result.gustafson == pytest.approx(2 - 20 / 11)
