"""A job is tuned on its own rows, and nothing but what is asked for is written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.engines.tuning import trial_ranks
from tasks.adapters.processes.coordinator import Coordinator
from tasks.commands.tune import scale_job as scaling
from tasks.commands.tune import trial_meter, tune_choices, tune_job
from tasks.commands.tune.tune_settings import as_yaml
from tasks.domain.encoding.tune.scaling_laws import ScalePoint
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings, TuneResult
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.job import Job
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import ThreadRank
from tests.builders.kitestring import Kitestring, make_job, workers_of, write_rows
from tests.builders.runs import until


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Encoded by a thread: a trial takes a moment."""
    monkeypatch.setattr(torchrun_encoders, "Coordinator", partial(Coordinator, start=ThreadRank))
    monkeypatch.setattr(trial_meter, "MEASURED_SECONDS", 0.05)
    monkeypatch.setattr(trial_ranks, "PIECE_SECONDS_MEASURED", 0.05)
    monkeypatch.setattr(tune_choices, "cores", lambda: 1)
    monkeypatch.setattr(scaling, "cores", lambda: 1)
    monkeypatch.setattr(tune_choices, "find_spec", lambda _: None)
    monkeypatch.setattr(tune_choices, "CPU_BATCHES", (512, 1024, 2048))
    write_rows(tmp_path / "rows" / "a.parquet", 0, 200)
    return parse_job(make_job(tmp_path, tiny_model, compute={"processes": 1}))


def silent(_: str) -> None:
    """Nobody listens."""


def test_a_sweep_measures_and_writes_nothing(job: Job, tmp_path: Path) -> None:
    lines: list[str] = []
    result = tune_job.tune_job(job, minutes=5, say=lines.append)
    assert {"start", "batch", "precision", "shuffling"} <= {trial.axis for trial in result.trials}
    assert all(trial.rows_per_second > 0 and trial.memory > 0 and not trial.error for trial in result.trials)
    assert len(lines) == len(result.trials)
    assert result.trials[0].lowest_cosine == pytest.approx(1.0)
    assert not Path(job.checkpoint).exists()
    assert not (tmp_path / "rows.db").exists()


def test_documents_are_tuned_in_chunks(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    source = parse_job({"source": job.source.model_dump() | {"chunks": {"tokens": 16}}}).source
    result = tune_job.tune_job(job.model_copy(update={"source": source}), minutes=0.001, say=silent)
    assert result.trials[0].rows_per_second > 0
    assert result.rows > 400  # of 200 documents of up to 41 words
    assert "chunks of documents" in result.notes[0]


def test_applied_settings_are_all_that_is_written(job: Job) -> None:
    result = tune_job.tune_job(job, minutes=5, say=silent, keep=True)
    assert result.kept
    assert [path.name[-11:] for path in Path(job.checkpoint).rglob("*") if path.is_file()] == ["-tuned.json"]


def test_settings_that_were_compared_with_nothing_are_not_stored(job: Job) -> None:
    """They would keep the job's runs from measuring for themselves."""
    result = tune_job.tune_job(job, minutes=0.001, say=silent, keep=True)
    assert [trial.axis for trial in result.trials] == ["start"]
    assert not result.kept
    assert any("for lack of time" in note for note in result.notes)
    assert any("nothing is stored" in note for note in result.notes)
    assert not Path(job.checkpoint).exists()


def test_the_same_settings_at_two_speeds_are_told() -> None:
    made = [Trial(axis="start", settings=TrialSettings(processes=1, threads=1), rows_per_second=speed) for speed in (100.0, 105.0)]
    assert not tune_job.unlike(made)
    slow = made[0].model_copy(update={"rows_per_second": 50.0})
    assert "50 and 105 rows/s" in tune_job.unlike([*made, slow])


def test_an_interrupted_sweep_gives_what_it_has_and_keeps_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, axis: Axis, settings: TrialSettings) -> Trial:
        if axis != "start":
            raise KeyboardInterrupt
        return Trial(axis=axis, settings=settings, rows_per_second=1.0)

    monkeypatch.setattr(trial_meter.TrialMeter, "__call__", interrupted)
    result = tune_job.tune_job(job, minutes=1, say=silent, keep=True)
    assert result.interrupted
    assert [trial.axis for trial in result.trials] == ["start"]
    assert not result.kept
    assert not Path(job.checkpoint).exists()


def test_a_job_that_cannot_be_encoded_says_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object, axis: Axis, settings: TrialSettings) -> Trial:
        return Trial(axis=axis, settings=settings, error="the ranks died")

    monkeypatch.setattr(trial_meter.TrialMeter, "__call__", fails)
    with pytest.raises(Permanent, match="own settings could not be measured: the ranks died"):
        tune_job.tune_job(job, minutes=1, say=silent)


def test_a_served_model_has_nothing_to_tune_here(job: Job) -> None:
    served = {"kind": "served", "api": "tei", "url": "http://127.0.0.1:9", "model": "m"}
    other = job.model_copy(update={"encoder": parse_job({"encoder": served}).encoder})
    with pytest.raises(BadInput, match="nothing to tune here"):
        tune_job.tune_job(other, minutes=1, say=silent)


def test_scaling_encodes_the_same_rows_and_as_many_times_as_there_are_ranks(job: Job) -> None:
    result = scaling.scale_job(job, minutes=0.02, say=silent)
    (alone,) = result.points
    assert alone.ranks == 1
    assert alone.rows == alone.grown_rows >= scaling.LEAST_ROWS
    assert result.amdahl is None


def test_ranks_that_are_slower_than_one_are_told() -> None:
    alone, two, four = (ScalePoint(ranks=n, threads=1, rows=100, seconds=seconds) for n, seconds in ((1, 10.0), (2, 12.0), (4, 9.0)))
    assert not scaling.slower_than_one([])
    assert not scaling.slower_than_one([alone, four])
    (note,) = scaling.slower_than_one([alone, two, four])
    assert note.startswith("2 ranks took longer than one")


def test_ranks_that_share_a_model_cannot_be_scaled_from_one(job: Job) -> None:
    shared = job.model_copy(update={"compute": job.compute.model_copy(update={"model_parallel": "fsdp"})})
    with pytest.raises(BadInput, match=r"compute\.model_parallel: off"):
        scaling.scale_job(shared, minutes=1, say=silent)


def test_the_winner_is_a_piece_of_a_job_file_and_a_faster_precision_is_a_comment() -> None:
    start = TrialSettings(processes=2, threads=1, precision="float32", batch_tokens=1024)
    fast = start.model_copy(update={"precision": "bfloat16"})
    trials = (
        Trial(axis="start", settings=start, rows_per_second=100.0),
        Trial(axis="precision", settings=fast, rows_per_second=150.0, lowest_cosine=0.9991),
    )
    written = as_yaml(TuneResult(corpus="c", machine="m", device="cpu", rows=1, trials=trials))
    assert yaml.safe_load(written) == {"compute": {"processes": 2, "threads": 1, "backend": "torch", "batch_tokens": 1024}}
    assert "#   precision: bfloat16" in written
    assert "1.50 times as fast, lowest cosine to float32 0.99910" in written


def test_the_command_tunes_with_real_ranks(kitestring: Kitestring, tmp_path: Path, tiny_model: Path, no_process_left: None) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 400)
    path = kitestring.job(make_job(tmp_path, tiny_model, compute={"processes": 2, "threads": 1}))
    done = kitestring("tune", path, "--minutes", "2", "--apply", "--json", "--html", tmp_path / "tune.html")
    assert done.code == 0, done.err
    assert done.json["trials"][0]["rows_per_second"] > 0
    assert done.json["kept"]
    page = (tmp_path / "tune.html").read_text()
    assert "Nothing is faster" in page or "times as fast" in page
    assert "tune: as the job says" in done.err


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Processes that are started meanwhile: what runs in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("no_process_left", "heeds_ctrl_c")
def test_ctrl_c_in_the_middle_gives_what_was_measured_and_leaves_nothing(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 400)
    path = kitestring.job(make_job(tmp_path, tiny_model, compute={"processes": 2, "threads": 1}))
    run = kitestring.start("tune", path, "--minutes", "5", "--apply", "--html", tmp_path / "tune.html")
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("tune: as the job says"):
            break
    until(lambda: any(p.name().startswith("ks-rank-") for p in workers_of(run.pid)), run)  # of the next trial
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "as the job says" in out
    assert "note: interrupted: this was measured until then" in out
    assert "The sweep was interrupted" in (tmp_path / "tune.html").read_text()
    assert not (tmp_path / "checkpoint").exists()


def test_a_page_that_cannot_be_written_is_told_before_anything_is_measured(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 10)
    path = kitestring.job(make_job(tmp_path, tiny_model))
    for page, told in ((tmp_path / "none" / "tune.html", "there is no folder"), (tmp_path, "is a folder")):
        done = kitestring.here("tune", path, "--html", page)
        assert done.code == 2
        assert "--html" in done.err
        assert told in done.err
        assert "tune:" not in done.err
