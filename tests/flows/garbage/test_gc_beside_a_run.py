"""`gc --delete` is held between its listing and its deleting while a real run adopts, seals and loads: nothing of what it loads is lost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.commands import unreferenced_objects
from tasks.commands.garbage_collect import Swept, sweep
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.seal import Seal
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import age

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
ROWS, PARTS = 120, 6
Job = dict[str, Any]


class Sweep:
    """`gc --delete` in a thread of its own, which can be held; `held` says that it has come to where it waits."""

    def __init__(self, job: Job) -> None:
        self.held, self._let_go, self.swept = threading.Event(), threading.Event(), list[Swept]()
        self._thread = threading.Thread(target=lambda: self.swept.append(sweep(parse_job(job), delete=True)))

    def hold(self) -> None:
        if threading.current_thread().name != "MainThread" and not self._let_go.is_set():
            self.held.set()
            assert self._let_go.wait(120)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> Swept:
        self._let_go.set()
        self._thread.join(120)
        (found,) = self.swept
        return found


@pytest.fixture
def job(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> Job:
    """A job whose shard somebody encoded two days ago and did not seal."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, ROWS)
    made = make_job(tmp_path, tiny_model, compute__unsaved_rows=2 * ROWS // PARTS)
    run_flow(made)
    for name in ("seal.json", "keys-*.parquet", "loads/**/*.json", "owners/*.json"):
        for path in (tmp_path / "checkpoint").rglob(name):
            path.unlink()
    shutil.rmtree(tmp_path / "rows.db")
    age(tmp_path / "checkpoint", 2)
    assert len(parts_in(tmp_path)) == PARTS
    return made


def parts_in(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoint").rglob("part-*.parquet"))


def seal_in(folder: Path) -> tuple[Checkpoint, Seal]:
    (path,) = (folder / "checkpoint").rglob("seal.json")
    corpus, fingerprint, _, shard = path.relative_to(folder / "checkpoint").parts[:4]
    checkpoint = Checkpoint(FolderStore(folder / "checkpoint"), corpus, fingerprint)
    seal = checkpoint.effective_seal(shard)
    assert seal
    return checkpoint, seal


def all_is_well(run_flow: RunFlow, job: Job, folder: Path, result: dict[str, Any]) -> Seal:
    """What is sealed is there, and the next run has nothing to do."""
    checkpoint, seal = seal_in(folder)
    assert sum(checkpoint.verified_part(part).num_rows for part in seal.parts) == ROWS
    again = run_flow(job)
    assert (result["verified"], result["rows"]["loaded"]) == (True, ROWS)
    assert (again["verified"], again["rows"]["loaded"], again["rows"]["embedded"]) == (True, ROWS, 0)
    assert not list((folder / "checkpoint").rglob("condemned/*")), "a mark is left"
    return seal


def wrap(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, before: Callable[[], None]) -> None:
    """Do something each time before a function is called."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)


def test_what_a_run_adopts_and_seals_after_the_listing_stays(
    run_flow: RunFlow, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has listed the parts and read that there is no seal."""
    gc = Sweep(job)
    wrap(monkeypatch, unreferenced_objects, "condemn", gc.hold)
    gc.start()
    assert gc.held.wait(60)
    result = run_flow(job)
    assert gc.finish().parts == 0
    assert result["rows"]["embedded"] == 0, "adopted"
    all_is_well(run_flow, job, tmp_path, result)


def test_a_run_that_comes_after_the_second_look_adopts_nothing_of_what_goes(
    run_flow: RunFlow, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other order: the sweep has looked again, and is about to remove."""
    gc = Sweep(job)
    wrap(monkeypatch, FolderStore, "delete_many", gc.hold)
    gc.start()
    assert gc.held.wait(60)
    result = run_flow(job)
    assert gc.finish().parts == PARTS
    assert result["rows"]["embedded"] == ROWS
    all_is_well(run_flow, job, tmp_path, result)


@pytest.mark.parametrize("ends", ["before the seal", "after the load"])
def test_a_seal_that_names_what_a_sweep_removes_is_withdrawn_by_the_run_itself(
    run_flow: RunFlow, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The run has adopted; the sweep looks again, finds no seal, and removes; before or after that the run seals."""
    gc, seals = Sweep(job), list[None]()
    wrap(monkeypatch, FolderStore, "delete_many", gc.hold)

    def sealing() -> None:
        seals.append(None)
        if len(seals) == 1:
            gc.start()
            assert gc.held.wait(60)
            if ends == "before the seal":
                assert gc.finish().parts == PARTS

    wrap(monkeypatch, DigestFile, "keep", sealing)  # before it: a file that is new protects all that is beside it from a sweep
    result = run_flow(job)
    assert gc.finish().failed == ""
    seal = all_is_well(run_flow, job, tmp_path, result)
    assert result["rows"]["embedded"] == ROWS
    assert {part.key.split("/")[-2] for part in seal.parts} == {seal.attempt}


def test_a_sweep_that_was_killed_is_finished_by_a_later_one(
    run_flow: RunFlow, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark is honoured until then."""

    def killed(self: FolderStore, keys: Iterable[str]) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "delete_many", killed)
        with pytest.raises(SystemExit):
            sweep(parse_job(job), delete=True)
    (mark,) = (tmp_path / "checkpoint").rglob("condemned/*.json")
    result = run_flow(job)
    assert result["rows"]["embedded"] == ROWS, "nothing of it is adopted"
    assert sweep(parse_job(job), delete=True).parts == PARTS
    assert mark.exists()  # its sweep may still be at work
    age(tmp_path / "checkpoint", 2)
    sweep(parse_job(job), delete=True)
    all_is_well(run_flow, job, tmp_path, result)
