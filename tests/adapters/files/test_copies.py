"""Whether files at another place are the same ones, by their bytes."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tasks.adapters.files.access import list_files
from tasks.adapters.files.copies import liken
from tasks.domain.shards.shard import FileVersion


@pytest.mark.parametrize("where", ["disk", "fsspec"])
def test_files_are_gone_copies_or_others(tmp_path: Path, where: str) -> None:
    top = str(tmp_path) if where == "disk" else f"memory://{tmp_path.name}"

    def put(root: str, **files: str) -> None:
        for name, text in files.items():
            (tmp_path / root).mkdir(exist_ok=True)
            with fsspec.open(f"{top}/{root}/{name}", "w") as file:
                file.write(text)

    def files() -> tuple[FileVersion, ...]:
        return tuple(list_files(f"{top}/new", ("",)))

    def root(name: str) -> str:
        return next(iter(list_files(f"{top}/{name}", ("",)))).root

    put("new", a="one", b="two")
    put("old", a="one", b="two")
    assert liken(files(), root("old")) == "copy"
    put("other", a="one", b="six")
    assert liken(files(), root("other")) == "other"
    put("longer", a="one", b="two and more")
    assert liken(files(), root("longer")) == "other"
    put("half", a="one")
    assert liken(files(), root("half")) == "gone"
    assert liken(files(), f"{top}/nowhere") == "gone"


def test_etags_tell_without_reading_and_what_a_table_says_of_its_files_is_none() -> None:
    etag, table = (FileVersion(path="s3://b/r/a", name="a", size=1, version=version) for version in ("ab" * 16 + "-2", "1700000000000"))
    assert (etag.is_timed, table.is_timed) == (False, True)
    assert FileVersion(path="/r/a", name="a", size=1, version="ab" * 16).is_timed
