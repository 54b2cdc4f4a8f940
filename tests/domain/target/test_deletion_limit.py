"""How much a mirror may remove at once."""

from __future__ import annotations

import pytest

from tasks.domain.job.target import MilvusSettings
from tasks.domain.target.deletion_limit import why_not_to_shrink


@pytest.mark.parametrize(
    ("settings", "leaving", "staying", "allowed"),
    [
        ({}, 0, 0, True),
        ({}, 50, 50, True),  # half may go, by default
        ({}, 51, 50, False),
        ({"max_shrink": 0.1}, 11, 89, False),
        ({"max_shrink": 0}, 1, 1_000_000, False),
        ({"max_shrink": 1}, 99, 1, True),
        ({"allow_shrink": True}, 99, 1, True),
        ({"allow_shrink": True, "max_shrink": 1}, 1, 0, False),  # an empty source is never followed
    ],
)
def test_more_than_a_share_stays_and_an_empty_source_is_never_followed(settings, leaving, staying, allowed) -> None:
    said = why_not_to_shrink(MilvusSettings(**settings), leaving=leaving, staying=staying)
    assert (said is None) == allowed


def test_the_cure_is_named() -> None:
    said = why_not_to_shrink(MilvusSettings(max_shrink=0.25), leaving=900, staying=100)
    assert said is not None
    for words in ("900 of the collection's 1,000 rows (90%)", "target.max_shrink", "25%", "nothing was removed", "allow_shrink: true"):
        assert words in said
