"""How far a run is, for those that watch it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.progress.snapshot import RateMeter, Snapshot
from tasks.run.artifacts import progress_text

STARTED = EncodingProgress(startup={"load": 1.0})


def at(**changes: Any) -> Snapshot:
    """A run that encodes the rows of a source that does not state how many they are."""
    usual: dict[str, Any] = dict.fromkeys(("reused", "encoded", "tokens", "loaded", "shards", "shards_sealed", "shards_loaded"), 0)
    given: dict[str, Any] = {"stage": "encode", "seconds": 1.0, "total": None, "shards_failed": 0, "encoding": STARTED}
    return Snapshot(**(usual | given | changes))


@pytest.mark.parametrize(
    ("now", "share", "of_rows"),
    [
        (at(encoded=751), 0.0, "751"),  # before the estimate
        (at(encoded=751, expected=3_004), 0.25, "751 of about 3,004"),
        (at(encoded=3_010, expected=3_004), 0.99, "3,010 of about 3,010"),
        (at(encoded=3_000, expected=3_004, ended=True), 1.0, "3,000 of about 3,004"),
        (at(encoded=500, reused=250, total=3_000, expected=3_004), 0.25, "750 of 3,000"),
        (at(encoded=3_000, total=3_000), 1.0, "3,000 of 3,000"),
        (at(total=0), 1.0, "0 of 0"),
        (at(encoded=751, expected=3_004, listing=True), 0.25, "751 of at least 3,004"),
    ],
)
def test_rows_that_no_file_counts_are_counted_by_the_estimate(now: Snapshot, share: float, of_rows: str) -> None:
    assert (round(now.share, 2), now.of_rows) == (share, of_rows)


def test_while_the_encoder_loads_a_run_is_starting_up_and_not_encoding() -> None:
    assert at(encoding=EncodingProgress(), expected=300).phase == "start-up"
    assert at().phase == "encode"
    assert at(stage="load", encoding=EncodingProgress()).phase == "load"


def test_neither_start_up_nor_the_proof_counts_as_encoding() -> None:
    rate = RateMeter()
    moments = [at(seconds=20.0, expected=400), *(at(seconds=20.0 + n, encoded=100 * n, expected=400) for n in (1, 2, 3))]
    assert [rate.of(now) for now in moments] == [0.0, 0.0, 100.0, 100.0]
    assert progress_text(moments[-1], 100.0) == "encode: 300 of about 400 rows encoded, 100 rows/s, about 1 s left; 0 loaded"
    assert rate.of(at(stage="verify", seconds=90.0, encoded=400)) == 0.0
