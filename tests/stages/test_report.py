"""A report's figures, apart from a run."""

from __future__ import annotations

import importlib.metadata
import pickle
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.job import Job
from tasks.domain.report.failure_advice import advise
from tasks.domain.report.figures import RankWork
from tasks.domain.report.run_report import FailedShard, RunReport
from tasks.run.plan import Plan
from tasks.run.progress import Journal
from tasks.run.seals.seal_totals import SealTotals
from tasks.stages.report import figures_of, stage_seconds


def test_a_report_can_be_written_from_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after all the work: `python -m flows` needs no installation until then either."""
    found = importlib.metadata.distribution

    def look(name: str) -> Any:
        if name == "kitestring":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", look)
    job = Job.model_validate({"corpus": "a", "source": {"kind": "jsonl", "uri": "a"}, "encoder": {}})
    plan = SimpleNamespace(
        job=job,
        record=SimpleNamespace(identity=None, facts=None),
        spec=SimpleNamespace(name="c", alias="a"),
        spool=SimpleNamespace(shards=0),
    )
    versions = figures_of(cast("Plan", plan), SealTotals(), failed=0)["versions"]
    assert versions["kitestring"] == "not installed"
    assert versions["pymilvus"] == found("pymilvus").version


@pytest.mark.parametrize("row", [None, 3])
def test_a_failed_shards_row_is_the_errors_and_not_a_number_in_its_words(row: int | None) -> None:
    failed = FailedShard(name="a", error="key 'row 7' occurs twice in rows 8.parquet", row=row)
    report = RunReport.model_construct(failures=(failed,))
    assert advise(report).row == ("" if row is None else "3")


def test_an_errors_row_outlives_its_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Permanent("no", row=3))).row == 3
    assert pickle.loads(pickle.dumps(BadInput("no"))).row is None


@pytest.mark.parametrize(("seconds", "work"), [(5.0, 4.5), (0.1, 5.0)])
def test_a_task_that_waits_for_the_encoder_to_start_does_not_encode(seconds: float, work: float) -> None:
    """The stage took 20 s, of which the encoder took 15 to start. A rank's own time counts where the first message came late."""
    progress = EncodingProgress(seconds=seconds, startup={"launch": 14.0, "load": 1.0}, work=(RankWork(rank=0, encode_seconds=work),))
    timed = stage_seconds(Journal(stages={"plan": 1.0, "encode": 20.0}), progress)
    assert timed == {"plan": 1.0, "encode": 5.0, "start-up": 15.0}
    assert stage_seconds(Journal(stages={"encode": 0.5}), EncodingProgress()) == {"encode": 0.5, "start-up": 0}
