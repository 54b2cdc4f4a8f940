"""From Python: what is called, what comes back, and where an event loop or another flow is running already."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import run_command
from flows.api import Job, RunResult, make_job, read_job, run, search, status
from tasks.domain.errors import BadInput, Permanent, RunFailed
from tests.builders.kitestring import make_job as job_document
from tests.builders.kitestring import text_of, write_rows
from tests.servers.prefect import PrefectServer


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> Job:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    return make_job(**job_document(tmp_path, tiny_model))


@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_job_runs_where_a_loop_is_running_and_again_as_a_subflow_of_somebody_elses(
    job: Job, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PREFECT_HOME", "PREFECT_API_URL"):
        monkeypatch.setenv(name, prefect_server.env[name])

    @flow
    async def nightly() -> RunResult:
        return run(job)

    async def cells() -> None:
        first = run(job)
        assert (first.rows.embedded, first.rows.loaded, first.verified) == (20, 20, True)
        assert first.report.endswith("report.html")
        assert len({hit.id for hit in search(job, text_of(7), 3)}) == 3
        assert status(job).complete
        again = await nightly()
        assert (again.rows.embedded, again.rows.reused) == (0, 20)

    with temporary_settings({PREFECT_API_URL: prefect_server.api}):
        asyncio.run(cells())
        told = capsys.readouterr().err  # of phases that are over before they are looked at no line is printed
        assert re.search(r"^(start-up: .*the encoder is starting|[a-z]+: .*\d rows)", told, re.MULTILINE), told
        with get_client(sync_client=True) as client:
            [mine] = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["nightly"])))
            children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[mine.id]))
            [child] = client.read_flow_runs(flow_run_filter=children)
            assert re.fullmatch(rf"{job.corpus} \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", child.name)


def test_a_job_is_read_with_single_settings_over_it_and_a_wrong_one_is_named(tmp_path: Path, job: Job) -> None:
    (tmp_path / "job.json").write_text(job.model_dump_json())
    assert read_job(str(tmp_path / "job.json"), shards__rows=7).shards.rows == 7
    with pytest.raises(BadInput, match=r"shards\.row"):
        read_job(str(tmp_path / "job.json"), shards__row=7)
    with pytest.raises(BadInput, match="targt"):
        make_job(targt={})


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ("sys.stderr.write('error: no such column\\n'); sys.exit(2)", BadInput),
        ("""sys.stdout.write('{"rows": 3}'); sys.stderr.write('error: not verified\\n'); sys.exit(1)""", RunFailed),
        ("sys.stderr.write('error: Milvus is down\\n'); sys.exit(1)", Permanent),
        ("sys.stderr.write('Killed\\n'); sys.exit(137)", Permanent),
    ],
)
def test_each_end_of_the_command_is_an_error_of_its_kind(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ends: str, kind: type[Exception]
) -> None:
    start = run_command.start_guarded
    monkeypatch.setattr(
        run_command, "start_guarded", lambda _command, **pipes: start([sys.executable, "-c", f"import sys; {ends}"], **pipes)
    )
    with pytest.raises(kind) as raised:
        run(job)
    assert type(raised.value) is kind
    assert str(raised.value) in ends or "exit code 137" in str(raised.value)
    assert "error" not in capsys.readouterr().err
    if kind is RunFailed:
        assert raised.value.summary == {"rows": 3}
