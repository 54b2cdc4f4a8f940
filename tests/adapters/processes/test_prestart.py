"""A launch that begins before the run: when there is one, and who takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.processes import prestart
from tasks.adapters.processes.hardware import Launch, plan_launch
from tasks.adapters.processes.prestart import early_launch, start_torchrun
from tasks.domain.job.job import Job
from tasks.domain.job.parse import parse_job
from tests.builders.kitestring import make_job

KIND = "sentence-transformers"


class FakeTorchrun:
    """Notes what is started and ended, and starts nothing."""

    begun: list[FakeTorchrun]

    def __init__(self, launch: Launch, kind: str, assignment: Path, log: Path, **_: Any) -> None:
        log.touch()
        self.made_for, self.assignment, self.log = (launch, kind), assignment, log
        self.is_alive, self.ended = True, False
        self.begun.append(self)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[FakeTorchrun]:
    """Every launch that was started."""
    FakeTorchrun.begun = []
    monkeypatch.setattr(prestart, "Torchrun", FakeTorchrun)
    return FakeTorchrun.begun


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return parse_job(make_job(tmp_path, tmp_path / "model"))


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path]:
    """A run's assignment, and its log."""
    (tmp_path / "assignment.json").write_text("what there is to do")
    return tmp_path / "assignment.json", tmp_path / "ranks.log"


def test_the_first_launch_of_a_run_is_the_one_that_was_begun_early(begun: list[FakeTorchrun], job: Job, written: tuple[Path, Path]) -> None:
    launch = plan_launch(job.compute)
    with early_launch(job):
        (waiting,) = begun
        assert not waiting.assignment.exists()
        assert start_torchrun(launch, KIND, *written) is waiting
        assert waiting.assignment.read_text() == "what there is to do"
        assert start_torchrun(launch, KIND, *written) is not waiting  # a launch ends once
        waiting.log.write_text("[rank 0] what it said")
        assert written[1].read_text() == "[rank 0] what it said"


def test_what_nobody_took_is_ended_and_no_later_run_gets_it(begun: list[FakeTorchrun], job: Job, written: tuple[Path, Path]) -> None:
    with early_launch(job):
        pass
    assert begun[0].ended
    assert not begun[0].log.exists()
    assert start_torchrun(plan_launch(job.compute), KIND, *written) is not begun[0]


def test_one_that_is_dead_or_was_made_for_other_ranks_is_not_taken(begun: list[FakeTorchrun], job: Job, written: tuple[Path, Path]) -> None:
    launch = plan_launch(job.compute)
    with early_launch(job):
        begun[0].is_alive = False
        assert start_torchrun(launch, KIND, *written) is not begun[0]
    for ranks, kind in ((launch.ranks + 1, KIND), (launch.ranks, "open-clip")):
        with early_launch(job):
            waiting = begun[-1]
            assert start_torchrun(Launch(ranks=ranks, threads=launch.threads, device="cpu"), kind, *written) is not waiting


@pytest.mark.parametrize("settings", [{"limit": "gpus"}, {"exclusive": True}, {"device": "cuda"}])
def test_none_is_begun_where_somebody_may_have_to_be_waited_for(
    begun: list[FakeTorchrun], tmp_path: Path, settings: dict[str, Any]
) -> None:
    document = make_job(tmp_path, tmp_path / "model")
    document["compute"] |= settings
    with early_launch(parse_job(document)):
        assert not begun


def test_none_is_begun_for_a_corpus_that_may_have_nothing_to_encode(begun: list[FakeTorchrun], tmp_path: Path, job: Job) -> None:
    settled = tmp_path / "checkpoint" / job.corpus / "encoders" / "1.json"
    settled.parent.mkdir(parents=True)
    settled.write_text("{}")
    with early_launch(job):
        assert not begun


def test_a_checkpoint_that_cannot_be_opened_is_left_for_the_run_to_tell(begun: list[FakeTorchrun], tmp_path: Path) -> None:
    with early_launch(parse_job(make_job(tmp_path, tmp_path / "model", checkpoint="s3://no bucket/x"))):
        assert not begun
