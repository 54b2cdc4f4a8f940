"""What Kitestring puts on a disk for itself is for its user alone, however careless the umask.

Files, sockets and downloads of a run lie below its scratch folder; `tests/flows/command_line/test_secrets.py` looks at those of real runs.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.object_store import folder_store
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.processes.scratch import LOCK, LONGEST_SOCKET, scratch_folder


@pytest.fixture(autouse=True)
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_scratch_folder_is_closed_to_others() -> None:
    with scratch_folder() as folder:
        assert mode(folder) == 0o700


def test_so_is_the_one_that_stands_in_where_the_usual_place_is_too_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * LONGEST_SOCKET)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with scratch_folder() as folder:
        assert deep not in folder.parents
        assert mode(folder) == 0o700


def test_what_a_dead_run_left_there_is_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * LONGEST_SOCKET)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with scratch_folder() as live:
        dead = live.with_name(f"{live.name}-dead")
        dead.mkdir()
        (dead / LOCK).touch()
        (dead / "keys-1.parquet").touch()
        with scratch_folder():
            assert (dead.exists(), live.exists()) == (False, True)


def test_an_unfinished_object_is_closed_and_a_finished_one_as_open_as_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir(mode=0o750)
    seen: list[int] = []
    fill = folder_store._fill

    def watched(file: folder_store._File, data: bytes | Path) -> None:
        fill(file, data)
        seen.append(mode(Path(file.name)))

    monkeypatch.setattr(folder_store, "_fill", watched)
    store = FolderStore(tmp_path / "store")
    store.write("a/b.json", b"{}")
    assert store.commit("a/c.json", b"{}")
    assert seen == [0o600, 0o600]
    assert [mode(tmp_path / "store" / "a" / name) for name in ("b.json", "c.json")] == [0o640, 0o640]
