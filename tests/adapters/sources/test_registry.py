"""A kind of source that a test brings along is read, cut, keyed and sampled as those of the project are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.sources.registry import open_source, rows_at_least, sample_texts
from tasks.adapters.sources.sampling import Effort, Sampler, weight_of
from tasks.domain.job.job import Job
from tasks.domain.shards.duplicates import policy_of
from tests.builders.source_rows import aside, good, make_job, spans_of

pytestmark = pytest.mark.usefixtures("more_kinds")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n".join(["a heading", *(f"line {number} of {name}" for number in range(100)), "", "end"]))
    return make_job("lines", tmp_path, skip=1)


def test_its_rows_are_made_ready_for_the_encoder(job: Job) -> None:
    rows = good(job)
    assert (len(spans_of(job)), len(rows)) == (2, 202)
    assert rows[0] == {"row": 0, "id": "a.txt:0", "text": "line 0 of a"}
    assert aside(job) == [(100, "a.txt:100", "empty text"), (100, "b.txt:100", "empty text")]
    assert policy_of(job) == "refuse"


def test_it_is_sampled_and_its_rows_are_estimated(job: Job) -> None:
    source, spans = open_source(job.source, rows=10), spans_of(job)
    sample = Sampler(source, (), job.target, Effort(points=2, rows=8)).take(spans, sum(map(weight_of, spans)))
    assert [place.num_rows for place in sample.rows] == [8, 8]
    assert 0 < sample.counted <= 204
    assert 0 < sample.covered <= sum(map(weight_of, spans))
    assert sample_texts(source, 2) == ["line 0 of a", "line 1 of a"]
    assert rows_at_least(source) == 0
