"""Figures of a run with known answers: what it cost, what its ranks did, what the run before it was."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.encoding.throughput import Throughput
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tasks.domain.report.figures import ExampleHit, cost_of, earlier_run
from tasks.domain.report.run_report import Progress
from tasks.domain.shards.row_accounting import RowCounts
from tasks.domain.shards.seal import EncodeStats, Part
from tasks.run.progress import MOST_SAMPLES, Journal


def part(rows: int, *, key: str = "k", seconds: float = 1.0) -> Part:
    stats = EncodeStats(tokens=3 * rows, tokenize_seconds=0.1, encode_seconds=seconds, write_seconds=0.2)
    return Part(key=key, first=0, stop=rows, rows=rows, bytes=0, sha256="", stats=stats)


def test_cost_counts_the_whole_run_by_the_hour_and_by_the_dollar() -> None:
    cost = cost_of(rows=9_000, tokens=720_000, seconds=1_800, price_per_hour=4.0)
    assert (cost.hours, cost.dollars) == (0.5, 2.0)
    assert (cost.rows_per_hour, cost.tokens_per_hour) == (18_000, 1_440_000)
    assert (cost.rows_per_dollar, cost.tokens_per_dollar) == (4_500, 360_000)


def test_without_a_price_nothing_is_said_of_dollars_and_without_work_nothing_of_rates() -> None:
    unpriced = cost_of(rows=9_000, tokens=0, seconds=1_800, price_per_hour=None)
    assert (unpriced.dollars, unpriced.rows_per_dollar, unpriced.tokens_per_hour) == (None, None, None)
    idle = cost_of(rows=0, tokens=0, seconds=36, price_per_hour=100.0)
    assert (idle.rows_per_hour, idle.dollars, idle.rows_per_dollar) == (None, 1.0, None)
    free = cost_of(rows=10, tokens=0, seconds=3600, price_per_hour=0.0)
    assert (free.dollars, free.rows_per_dollar) == (0.0, None)


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ({"price_per_hour": -1}, "report.price_per_hour"),
        ({"colour_by": "lang"}, "report.colour_by 'lang' is not in source.metadata (url)"),
        ({"examples": 100}, "report.examples"),
    ],
)
def test_settings_of_the_report_that_make_no_sense_are_refused(report: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_job({"source": {"metadata": ["url"]}, "report": report})
    assert told in str(refused.value)


def test_an_earlier_run_is_read_from_its_report_whichever_version_wrote_it() -> None:
    begun = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    document = {
        "run": "r0",
        "started": begun.isoformat(),
        "finished": (begun + timedelta(seconds=90)).isoformat(),
        "rows": {"source": 100, "embedded": 80, "reused": 20, "loaded": 100, "a fate of later days": 3},
        "seconds": {"encode": 40.0},
        "verified": True,
        "what no version wrote so far": [1, 2],
    }
    before = earlier_run(json.loads(json.dumps(document)))
    assert before.rows == RowCounts(source=100, embedded=80, reused=20, loaded=100)
    assert (before.seconds, before.rows_per_second, before.verified) == (90.0, 2.0, True)
    with pytest.raises(ValueError, match="run"):
        earlier_run({"rows": {}})


def test_what_a_rank_did_adds_up_and_its_memory_is_its_highest() -> None:
    pace = Throughput(ranks=2)
    pace.done(1, part(10, seconds=2.0), padded=40, memory={"": 500, "GPU": 900})
    pace.done(1, part(20, seconds=3.0), padded=80, memory={"": 400, "GPU": 950})
    (work,) = pace.work
    assert (work.rank, work.parts, work.rows, work.tokens, work.padded) == (1, 2, 30, 90, 120)
    assert (work.tokenize_seconds, work.encode_seconds, work.write_seconds) == pytest.approx((0.2, 5.0, 0.4))
    assert pace.memory == {"rank 1": 500, "rank 1, GPU": 950}


def test_rows_by_rank_add_up_to_the_rows() -> None:
    pace = Throughput(ranks=3)
    assert pace.rows_by_rank == ()
    pace.done(2, part(10, key="a"))
    pace.at(0, "b", 4)
    pace.at(2, "c", 5)
    assert pace.rows_by_rank == (4, 0, 15)
    assert sum(pace.rows_by_rank) == pace.rows


def test_a_long_run_is_remembered_in_few_moments_that_span_it() -> None:
    journal = Journal()
    now = journal.snapshot()
    for second in range(5_000):
        journal._sample(replace(now, seconds=float(second), encoded=2 * second))
    assert MOST_SAMPLES / 4 < len(journal.samples) < MOST_SAMPLES
    assert journal.samples[0] == Progress(seconds=0.0, rows=0)
    assert journal.samples[-1].seconds > 4_900
    steps = {b.seconds - a.seconds for a, b in zip(journal.samples, journal.samples[1:], strict=False)}
    assert max(steps) <= 2 * min(steps)
    assert all(sample.rows == 2 * sample.seconds for sample in journal.samples)


def test_what_is_kept_of_a_row_can_be_written_and_holds_no_credential() -> None:
    hit = ExampleHit(id="\ud800", score=1.0, text="see https://user:canary@host/x", fields={"url": "https://host/?X-Amz-Signature=canary"})
    assert "canary" not in hit.model_dump_json()
