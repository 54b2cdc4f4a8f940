"""Following a run from elsewhere, and what a command writes into a log file."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from flows.command_line import logs
from flows.command_line.terminal import counted_line
from flows.embed import embed_corpus
from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.object_store.registry import open_store
from tasks.commands import follow_run
from tasks.commands.waiting_runs import runs_at_prefect
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.progress.snapshot import Counted
from tests.builders.checkpoints import live_run, snapshot
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.servers.prefect import PrefectServer


@pytest.fixture
def kitestring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitestring:
    """The command line, in this process and in its folder; without a Prefect server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return Kitestring(folder=tmp_path, env={})


@pytest.fixture
def runs(kitestring: Kitestring, tiny_model: Path) -> LiveRuns:
    """Those of a corpus of ten rows, of which nothing is sealed. `job.yaml` is its job."""
    document = make_job(kitestring.folder, tiny_model)
    write_rows(kitestring.folder / "rows" / "a.parquet", 0, 10)
    kitestring.job(document)
    return LiveRuns(open_store(document["checkpoint"]), document["corpus"])


def now(**changes: object) -> LiveRun:
    return live_run("20261121T080000-a", at=dt.datetime.now(dt.UTC), **changes)


@contextmanager
def going_on(runs: LiveRuns, *told: LiveRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that tells the first, and the others one after another as soon as somebody has looked."""
    looked = threading.Semaphore(0)
    monkeypatch.setattr(follow_run.time, "sleep", lambda _seconds: looked.release())
    runs.publish(told[0])

    def go_on() -> None:
        for each in told[1:]:
            looked.acquire(timeout=30)
            runs.publish(each)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    thread.join()


def test_a_run_elsewhere_is_drawn_until_it_ends(kitestring: Kitestring, runs: LiveRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    going = [now(snapshot=snapshot(encoded=rows, total=10)) for rows in (3, 8)]
    done = now(state="completed", snapshot=snapshot(stage="verify", encoded=10, total=10, ended=True))
    with going_on(runs, *going, done, monkeypatch=monkeypatch):
        said = kitestring.here("status", "job.yaml", "--watch", "--json")
    assert "embed-corpus on here, run 20261121T080000-a" in said.err
    assert "encode: 3 of 10 rows" in said.err
    *told, status = [json.loads(line) for line in said.out.splitlines()]
    assert {each["snapshot"]["encoded"] for each in told} >= {3}
    assert (said.code, status["shards"]["sealed"], status["live"]) == (3, 0, None)


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [("failed", 1, "failed: the disk is full"), ("stopped", 3, "was stopped: `kitestring run` resumes it")],
)
def test_how_it_ended_is_told(
    kitestring: Kitestring, runs: LiveRuns, monkeypatch: pytest.MonkeyPatch, state: str, code: int, words: str
) -> None:
    ended = now(state=state, cause="the disk is full")
    with going_on(runs, now(), ended, monkeypatch=monkeypatch):
        said = kitestring.here("status", "job.yaml", "--watch")
    assert words in said.err
    assert said.code == code


def test_a_run_that_tells_nothing_any_more_is_said_to_be_silent_and_one_that_is_not_there_not_to_be(
    kitestring: Kitestring, runs: LiveRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no run of " in kitestring.here("status", "job.yaml", "--watch").err
    with going_on(runs, now(), live_run("20261121T080000-a"), monkeypatch=monkeypatch):
        said = kitestring.here("status", "job.yaml", "--watch")
    assert "run 20261121T080000-a on here has reported nothing since 2026-11-21 08:00:00 UTC" in said.err


def test_status_names_the_run_that_is_under_way(kitestring: Kitestring, runs: LiveRuns) -> None:
    runs.publish(now(snapshot=snapshot(encoded=3, total=10)))
    assert "embed-corpus on here: encode, 3 of 10 rows encoded" in kitestring.here("status", "job.yaml").out


def _handlers() -> list[logging.Handler]:
    return [handler for name in ("", "kitestring", "kitestring-command") for handler in logging.getLogger(name).handlers]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("behind", [True, False], ids=["behind the command", "before it"])
def test_a_log_file_has_what_was_asked_and_what_went_wrong(kitestring: Kitestring, behind: bool) -> None:
    file = kitestring.folder / "kitestring.log"
    options = ["--log-file", str(file), "-v"]
    command = ["status", "nowhere.yaml"]
    before = _handlers()
    said = kitestring.here(*(command + options if behind else options + command))
    assert said.code == 2
    first, last = file.read_text().splitlines()
    assert "INFO kitestring-command: kitestring " in first
    assert "ERROR kitestring-command: " in last
    assert "nowhere.yaml" in last
    assert _handlers() == before


@pytest.mark.usefixtures("runs")
def test_a_log_file_that_cannot_be_written_is_told_at_once(kitestring: Kitestring) -> None:
    said = kitestring.here("status", "job.yaml", "--log-file", "nowhere/kitestring.log")
    assert (said.code, said.err.strip()) == (2, "error: --log-file: 'nowhere/kitestring.log' cannot be written: No such file or directory")


def test_verbose_shows_messages_without_their_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("kitestring.load")
    with logs.logged(1, None):
        log.info("reading s3://me:secret@bucket")
        log.debug("not this")
    log.info("nor this")
    assert "reading s3://bucket\n" in (said := capsys.readouterr().err)
    assert "this" not in said.partition("--- Logging error")[0]


def test_a_run_that_waits_for_a_worker_is_told_by_the_prefect_server(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in prefect_server.env.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: prefect_server.api}), get_client(sync_client=True) as client:
        for corpus, name in (("birds", "amber-fox"), ("fish", "blue-fox")):
            client.create_flow_run(embed_corpus, name=name, parameters={"job": {"corpus": corpus}}, state=Scheduled(name="Late"))
        [line] = runs_at_prefect("birds")
    assert line.startswith("Prefect has run 'amber-fox': Late")


@pytest.mark.parametrize(
    ("counted", "line"),
    [
        (Counted(what="rows compared", done=500, total=2_000, seconds=5.0), "500 of 2,000 rows compared, 100 rows/s, 0:15 left"),
        (Counted(what="shards", done=1, total=3, seconds=4.0), "1 of 3 shards, 0:08 left"),
        (Counted(what="shards", done=0, total=3, seconds=0.0), "0 of 3 shards"),
        (Counted(what="shards", done=3, total=3, seconds=1.0), "3 of 3 shards, 3 shards/s"),
    ],
)
def test_what_is_counted_has_a_rate_and_a_time_left(counted: Counted, line: str) -> None:
    assert counted_line(counted) == line
