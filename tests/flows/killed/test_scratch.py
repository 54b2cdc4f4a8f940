"""Temporary files: a run leaves none, and what a killed one left is removed by the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tasks.adapters.processes.scratch import PREFIX
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, workers_of, write_rows
from tests.builders.runs import parts_in, until
from tests.builders.temporary_files import swept_files

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything below a run puts its temporary files; short, as a socket's path has to be."""
    return tmp_path_factory.mktemp("t")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_run_leaves_one_folder_and_the_next_run_none(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path, temporary: Path
) -> None:
    """torch's elastic agent makes a folder for each launch, which it removes neither at its end nor when it is killed."""
    kitestring = replace(kitestring, env={**kitestring.env, "TMPDIR": str(temporary)})
    write_rows(tmp_path / "rows" / "a.parquet", 0, 3_000)
    job = kitestring.job(make_job(tmp_path, tiny_model, compute__unsaved_rows=200))
    run = kitestring.start("run", job)
    until(lambda: len(parts_in(tmp_path / "checkpoint")) > 5, run)
    processes = workers_of(run.pid)
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert all(name.startswith(PREFIX) for name in left_in(temporary)), left_in(temporary)

    again = kitestring("run", job)
    assert again.code == 0, again.err
    assert left_in(temporary) == []


def test_the_files_of_loading_and_proving_are_swept_as_well(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """Keys beside the parts, and the table of rows that two files share."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    write_rows(tmp_path / "rows" / "b.parquet", 10, 30)
    job = make_job(tmp_path, tiny_model, failures__on_duplicate="first")
    with swept_files() as kinds:
        assert run_flow(job)["rows"]["duplicates"] == 10
        assert run_flow(job)["verified"] is True
    assert {"keys", "owners"} <= kinds
