"""An import that was killed, and a source that has changed since."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tasks.run.import_attempts import SILENT_SECONDS
from tasks.stages import bulk_import
from tasks.stages.bulk_import import import_shards
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.flows.imports.attempts import Killed, left_behind, opening


@pytest.mark.parametrize("how", ["changed", "damaged"])
def test_an_import_that_was_killed_before_its_ledger_leaves_no_row_unaccounted(
    in_memory: dict[str, object],
    tmp_path: Path,
    tiny_model: Path,
    run_flow: RunFlow,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 20, number * 20 + 20)
    document = make_job(tmp_path, tiny_model)
    run_flow(document)

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(document, in_memory) as at, monkeypatch.context() as patch:
        patch.setattr(bulk_import, "_enter", dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
    if how == "changed":
        write_rows(tmp_path / "rows" / "1.parquet", 20, 35)
    else:
        (path,) = Path(document["checkpoint"]).glob("rows/*/imports/*/*.json")
        path.write_bytes(b"{")
    done = run_flow({**document, "target": in_memory})
    expected = 35 if how == "changed" else 40
    assert (done["verified"], done["rows"]["loaded"]) == (True, expected), json.dumps(done)
    with opening(document, in_memory) as at:
        assert at.collection.count() == expected
    if how == "damaged":  # somebody may be at work on it: it has to be silent for a while
        (path,) = Path(document["checkpoint"]).glob("rows/*/imports/*/*.json")
        os.utime(path, times=(time.time() - SILENT_SECONDS,) * 2)
        assert run_flow({**document, "target": in_memory})["verified"] is True
    assert left_behind(in_memory) == []
    assert not list(Path(document["checkpoint"]).glob("rows/*/imports/*/*.json"))
