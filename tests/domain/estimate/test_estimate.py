"""What a run is said to take: time, bytes, dollars; and how far off that was."""

from __future__ import annotations

import pytest

from tasks.domain.estimate.estimate import Estimate, Sampled, compare_estimate, dollars_of, seconds_of
from tasks.domain.estimate.formatting import format_estimate, format_outcome
from tasks.domain.estimate.intervals import Range, exactly
from tasks.domain.estimate.rates import Rate
from tasks.domain.estimate.storage_size import checkpoint_bytes, index_share, target_bytes
from tasks.domain.job.index import Index

RATE = Rate(
    unit="tokens",
    per_second=Range(low=50, expected=100, high=200),
    startup_seconds=exactly(10),
    rest_seconds=Range(low=1, expected=2, high=3),
    loaded_per_second=exactly(1_000),
    origin="a test",
)


def test_time_is_start_up_then_the_slower_of_encoding_and_loading_then_the_rest() -> None:
    work = Range(low=900, expected=1_000, high=1_100)
    assert seconds_of(work, rows_to_load=exactly(10), rate=RATE) == Range(low=15.5, expected=22, high=35)
    assert seconds_of(work, rows_to_load=exactly(20_000), rate=RATE) == Range(low=31, expected=32, high=35)
    unseen = RATE.model_copy(update={"loaded_per_second": None})
    assert seconds_of(work, rows_to_load=exactly(20_000), rate=unseen) == Range(low=15.5, expected=22, high=35)


def test_nothing_to_encode_starts_no_encoder() -> None:
    assert seconds_of(exactly(0), rows_to_load=exactly(5_000), rate=RATE) == Range(low=6, expected=7, high=8)


def test_cost_is_hours_times_the_price() -> None:
    assert dollars_of(Range(low=1_800, expected=3_600, high=7_200), 2.5) == Range(low=1.25, expected=2.5, high=5)
    assert dollars_of(None, 2.5) is None
    assert dollars_of(exactly(1), None) is None


def test_the_checkpoint_takes_what_was_measured() -> None:
    """100,000 vectors of 384 numbers and little else: 142 MB, measured."""
    assert 142e6 in checkpoint_bytes(exactly(100_000), dim=384, scalars=10)


def test_milvus_lite_takes_what_was_measured() -> None:
    """537 passages of 384 numbers with 690 bytes of text and metadata: 1,211,980 bytes of data, 901,990 of index."""
    found = target_bytes(exactly(537), dim=384, scalars=690, index=Index())
    assert 1_211_980 + 901_990 in found
    assert found.expected == pytest.approx(2_113_970, rel=0.1)
    assert index_share(Index(), 4 * 384).expected == pytest.approx(901_990 / (537 * 1_536), abs=0.02)


def test_full_text_takes_what_was_measured() -> None:
    """10,000 texts of 64.5 different words in Milvus Lite: 36,927,367 bytes without full text, 40,168,144 with it."""
    without, found = (target_bytes(exactly(10_000), dim=384, scalars=450, index=Index(), words=words) for words in (0, 64.5))
    assert 40_168_144 - 36_927_367 in Range(low=found.low - without.low, expected=found.expected - without.expected, high=found.high)
    assert found.expected - without.expected == pytest.approx(3_240_777, rel=0.25)


def test_stored_shorter_vectors_take_less() -> None:
    whole, half = (target_bytes(exactly(1), dim=1_000, scalars=0, index=Index(type="FLAT"), vectors=v) for v in ("float32", "float16"))
    assert whole.low - half.low == 4_000


@pytest.mark.parametrize("kind", Index.model_fields["type"].annotation.__args__)
def test_every_index_has_its_share(kind: str) -> None:
    assert index_share(Index.model_validate({"type": kind}), 4 * 768).high > 0


def estimate(**changes: object) -> Estimate:
    usual: dict[str, object] = {
        "rows": exactly(1_000),
        "tokens": Range(low=40_000, expected=50_000, high=60_000),
        "rows_to_load": exactly(1_000),
        "seconds": Range(low=50, expected=100, high=150),
        "checkpoint_bytes": exactly(1_500_000),
        "price_per_hour": 3.6,
        "cost": Range(low=0.05, expected=0.1, high=0.15),
        "rate": RATE,
        "sample": Sampled(rows=640, places=16, bytes=80_000, tokenizer="the model's own tokenizer"),
    }
    return Estimate.model_validate(usual | changes)


def test_an_estimate_is_held_against_what_came() -> None:
    held = compare_estimate(estimate(), rows=1_000, tokens=55_000, seconds=200, checkpoint_bytes=1_500_000)
    assert [format_outcome(figure) for figure in held] == [
        ("rows", "1,000", "1,000", "+0%"),
        ("tokens", "50,000 (40,000 to 60,000)", "55,000", "+10%"),
        ("seconds", "1 min 40 s (50 s to 2 min 30 s)", "3 min 20 s", "+100%, outside the range"),
        ("checkpoint bytes", "1.5 MB", "1.5 MB", "+0%"),
        ("cost", "$0.10 ($0.05 to $0.15)", "$0.20", "+100%, outside the range"),
    ]


def test_an_estimate_that_is_nearly_right_is_right_however_narrow_its_range() -> None:
    near = estimate(rows=Range(low=3_002, expected=3_004, high=3_007), rate=None)
    found = {
        actual: format_outcome(compare_estimate(near, rows=actual, tokens=0, seconds=1, checkpoint_bytes=1)[0])
        for actual in (3_000, 3_004, 2_900)
    }
    assert {actual: line[3] for actual, line in found.items()} == {3_000: "-0.1%", 3_004: "+0%", 2_900: "-3%, outside the range"}


def test_what_was_not_told_is_not_held() -> None:
    bare = estimate(tokens=None, seconds=None, checkpoint_bytes=None, cost=None, price_per_hour=None)
    assert [figure.name for figure in compare_estimate(bare, rows=900, tokens=0, seconds=1, checkpoint_bytes=1)] == ["rows"]


def test_an_estimate_reads_well() -> None:
    lines = dict(format_estimate(estimate(notes=("something is not known",))))
    assert lines["time"] == "1 min 40 s (50 s to 2 min 30 s)"
    assert lines["cost"] == "$0.10 ($0.05 to $0.15) at $3.60 an hour"
    assert lines["rate"] == "100 (50 to 200) tokens/s: a test"
    assert lines["sample"] == "640 rows at 16 places, 80 kB, tokens by the model's own tokenizer"
    assert lines["note"] == "something is not known"
    assert dict(format_estimate(estimate(seconds=None)))["time"] == "not known"
