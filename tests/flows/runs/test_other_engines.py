"""A whole job on an engine that the project does not have: it is one file and one line in a registry."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.command_line.show import status_text
from tasks.adapters.engines.loading.own_collections import OwnCollections
from tasks.adapters.sources.parquet import ParquetFiles
from tasks.commands.inspect import look_at_status
from tasks.domain.errors import BadInput, RunFailed
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.engine import ENGINES
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.shard import Span
from tasks.run import early_groups
from tasks.run.seals import shard_loading
from tasks.stages import load as load_stage
from tests.builders.engines.hash_encoders import by_hash
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import keys_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
KIND = "sentence-transformers"
FILES, ROWS = 6, 50


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of two hosts in threads, whose encoders are threads as well."""
    monkeypatch.setitem(ENGINES.known, "fake", "tests.builders.engines.fake_engine:FAKE")
    monkeypatch.setitem(ENCODERS.known, KIND, by_hash(KIND))


def written(folder: Path) -> list[str]:
    return [key for n in range(FILES) for key in write_rows(folder / "rows" / f"{n}.parquet", n * ROWS, (n + 1) * ROWS)]


def reported(folder: Path) -> dict[str, Any]:
    """The newest report."""
    newest = max((folder / "checkpoint").glob("*/*/runs/*/report.json"))
    report: dict[str, Any] = json.loads(newest.read_text())
    return report


def assert_done_once(result: dict[str, Any], folder: Path, keys: list[str], *, embedded: int, reused: int) -> None:
    assert result["verified"] is True
    rows = result["rows"]
    assert (rows["source"], rows["embedded"], rows["reused"], rows["loaded"]) == (len(keys), embedded, reused, len(keys))
    assert sorted(keys_in(str(folder / "rows.db"))) == sorted(keys)


@pytest.mark.usefixtures("fake")
def test_a_job_runs_on_an_engine_of_other_hosts_and_again_on_this_machine(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    keys = written(tmp_path)
    job = make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"})
    first = run_flow(job)
    assert_done_once(first, tmp_path, keys, embedded=len(keys), reused=0)
    ranks = reported(tmp_path)["ranks"]
    assert [work["rank"] for work in ranks] == [0, 0], "each host's ranks have its own numbers"
    assert len({work["host"] for work in ranks}) == 2, "both hosts have encoded"
    assert sum(work["rows"] for work in ranks) == len(keys)
    again = run_flow(make_job(tmp_path, tiny_model))  # the engine is no part of what a shard is
    assert_done_once(again, tmp_path, keys, embedded=0, reused=len(keys))


@pytest.mark.usefixtures("fake")
def test_hosts_load_what_they_have_sealed_and_the_flow_proves_it(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_flow: list[str] = []
    load = shard_loading.load_seal
    monkeypatch.setattr(load_stage, "load_seal", lambda *given, **more: by_flow.append(given[2].id) or load(*given, **more))
    keys = written(tmp_path)
    job = make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"}, target__load_from="hosts", target__uri=f"memory://{tmp_path}")
    result = run_flow(job)
    assert result["verified"] is True
    assert result["rows"]["loaded"] == len(keys)
    assert by_flow == []
    entries = [json.loads(path.read_text()) for path in (tmp_path / "checkpoint").glob("*/*/loads/*/*.json") if len(path.stem) == 32]
    assert [(entry["state"], entry["rows"]) for entry in entries] == [("loaded", ROWS)] * FILES
    assert sum(host["loaded"] for host in reported(tmp_path)["hosts"]) == len(keys)
    assert_status_names_the_hosts(job, len(keys))
    # A changed file: rows that the new version lacks leave, and a part that was damaged since is left to the flow.
    write_rows(tmp_path / "rows" / "0.parquet", 0, ROWS // 2)
    monkeypatch.setattr(OwnCollections, "of", refuse_once(OwnCollections.of))
    again = run_flow(job)
    assert again["verified"] is True
    assert again["rows"]["loaded"] == len(keys) - ROWS // 2
    assert len(by_flow) == 1
    assert any("hosts could not load all sealed shards" in note for note in again["notes"])


def assert_status_names_the_hosts(job: dict[str, Any], rows: int) -> None:
    status = look_at_status(parse_job(job))
    assert status.hosts
    assert status.hosts.ended
    hosts = status.summary["hosts"]["hosts"]
    assert len(hosts) == 2
    assert sum(host["rows"] for host in hosts) == sum(host["loaded"] for host in hosts) == rows
    text = status_text(status)
    assert f"hosts:  2 of run {status.hosts.run}, which has ended" in text
    assert all(f"        {host['host']}: " in text for host in hosts)


def refuse_once(of: Callable[..., Any]) -> Callable[..., Any]:
    """What opens a collection, which two hosts cannot at first."""
    refusals = [BadInput("no token here")] * 2

    def opens(*given: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return of(*given)

    return opens


@pytest.mark.usefixtures("fake")
def test_hosts_encode_while_the_source_is_still_being_listed(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_groups, "EARLY_SECONDS", 0.0)
    monkeypatch.setattr(early_groups, "FULL_GROUP", 1)
    keys, spans, sealed_by_then = written(tmp_path), ParquetFiles.spans, list[int]()

    def slow(source: ParquetFiles) -> Iterator[Span]:
        """The last file is listed when others are sealed."""
        for number, span in enumerate(spans(source)):
            deadline = time.monotonic() + 60
            while number == FILES - 1 and len(seals(tmp_path)) < 2 and not sealed_by_then and time.monotonic() < deadline:
                time.sleep(0.05)
            if number == FILES - 1:
                sealed_by_then.append(len(seals(tmp_path)))
            yield span

    monkeypatch.setattr(ParquetFiles, "spans", slow)
    job = make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"}, shards__rows=ROWS, target__uri=f"memory://{tmp_path}")
    result = run_flow(job)
    assert sealed_by_then[0] >= 2
    rows = result["rows"]
    assert (result["verified"], rows["embedded"], rows["reused"], rows["loaded"]) == (True, len(keys), 0, len(keys))
    assert result["shards"] == {"planned": FILES, "sealed": FILES, "loaded": FILES, "failed": 0}
    handed_out: list[object] = []
    monkeypatch.setattr(early_groups, "follow_spans", lambda *given, **_: handed_out.append(given) or ())
    write_rows(tmp_path / "rows" / "0.parquet", 0, ROWS // 2)
    again = run_flow(job)  # rows of the earlier version have vectors, which are taken over: known when all is listed
    assert (again["verified"], again["rows"]["embedded"], handed_out) == (True, 0, [])


@pytest.mark.usefixtures("fake")
def test_the_first_root_is_that_of_the_listed_files_and_not_of_the_uri(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source may be one file; its folder is the root."""
    monkeypatch.setattr(early_groups, "EARLY_SECONDS", 0.0)
    follow, spans, begun = early_groups.follow_spans, ParquetFiles.spans, threading.Event()

    def followed(*given: Any, **settings: Any) -> Iterator[Span]:
        begun.set()
        return follow(*given, **settings)

    def late(source: ParquetFiles) -> Iterator[Span]:
        assert begun.wait(60)
        yield from spans(source)

    monkeypatch.setattr(early_groups, "follow_spans", followed)
    monkeypatch.setattr(ParquetFiles, "spans", late)
    write_rows(tmp_path / "0.parquet", 0, ROWS)
    fsspec.filesystem("memory").pipe(f"{tmp_path}/rows/0.parquet", (tmp_path / "0.parquet").read_bytes())
    where = {"source__uri": f"memory://{tmp_path}/rows/0.parquet", "target__uri": f"memory://{tmp_path}"}
    result = run_flow(make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"}, **where))
    assert (result["verified"], result["rows"]["embedded"]) == (True, ROWS)
    (first,) = tmp_path.glob("checkpoint/*/*/places/first.json")
    assert json.loads(first.read_text())["roots"] == [f"memory://{tmp_path}/rows"]


def seals(folder: Path) -> list[Path]:
    return [*folder.glob("checkpoint/*/*/shards/*/seal.json")]


@pytest.mark.usefixtures("fake")
def test_a_file_that_breaks_on_another_host_fails_by_name_and_the_others_are_loaded(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    written(tmp_path)
    pq.write_table(pa.table({"id": ["one", "one"], "text": ["the one", "that was"]}), tmp_path / "rows" / "doubled.parquet")
    with pytest.raises(RunFailed, match=r"1 of 7 shards failed; the first: doubled\.parquet"):
        run_flow(make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"}))
    report = reported(tmp_path)
    assert report["rows"]["loaded"] == FILES * ROWS
    ((name, row),) = [(failed["name"], failed["row"]) for failed in report["failures"]]
    assert (name, row) == ("doubled.parquet row groups 0-0", 0)
