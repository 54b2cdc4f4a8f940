"""Metadata columns: types and names stay as the first run of a corpus found them, and values arrive as they were written."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.rows import scalars
from tasks.adapters.sources import csv
from tasks.adapters.targets.memory_collection import memory_servers
from tasks.adapters.targets.registry import target_for
from tasks.commands.search import ask
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job
from tests.builders.memory_jobs import REPLAY, a_job

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
KEPT = "the first run of this corpus inferred double for column 'version', which now holds text: rows whose value is no double are "


def write_versions(path: Path, *versions: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,text,version\n" + "".join(f"{path.stem}{at},the one {at},{version}\n" for at, version in enumerate(versions)))


def types_in(job: dict[str, Any]) -> dict[str, str]:
    server = memory_servers[job["target"]["uri"]]
    return {field.name: field.type for spec in server.specs.values() for field in spec.fields}


@pytest.fixture
def old(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A corpus of an older version: a CSV column of names was a number, and nothing but parts and collection said so."""
    write_versions(tmp_path / "rows" / "a.csv", "3.9", "3.10")
    job = a_job(
        tmp_path, tiny_model, source={"kind": "csv", "uri": str(tmp_path / "rows"), "id": "id", "text": "text", "metadata": ["version"]}
    )
    with monkeypatch.context() as older:
        older.setattr(csv, "type_of_strings", lambda _cells: "double")
        older.setattr(scalars, "_exact_float_of", scalars._float_of)
        assert run_flow(job)["rows"]["loaded"] == 2
    [document] = tmp_path.rglob("columns/*.json")
    document.unlink()
    return job


def test_an_old_checkpoint_whose_column_was_a_number_goes_on(run_flow: RunFlow, old: dict[str, Any], tmp_path: Path) -> None:
    result = run_flow(old)
    assert (result["rows"]["embedded"], result["rows"]["reused"], result["shards"]["loaded"]) == (0, 2, 1)
    assert any(note.startswith(KEPT) and "source.types: {version: text} and another target.collection" in note for note in result["notes"])
    [document] = tmp_path.rglob("columns/*.json")
    assert json.loads(document.read_text())["inexact"] == ["version"]
    write_versions(tmp_path / "rows" / "b.csv", "3.20")
    result = run_flow(old)
    assert (result["rows"]["embedded"], result["rows"]["quarantined"], types_in(old)) == (1, 0, {"version": "double"})
    old["source"]["types"] = {"version": "text"}
    with pytest.raises(BadInput, match="field 'version' double, the job varchar: choose another"):
        run_flow(old)
    old["target"]["collection"] = "names"
    assert run_flow(old)["rows"]["loaded"] == 3
    server = memory_servers[old["target"]["uri"]]
    assert sorted(row["version"] for row in server.rows[server.aliases["names"]].values()) == ["3.10", "3.20", "3.9"]


def test_where_the_old_collection_is_gone_its_sealed_parts_tell_the_types(run_flow: RunFlow, old: dict[str, Any]) -> None:
    del memory_servers[old["target"]["uri"]]
    result = run_flow(old, REPLAY)
    assert (result["rows"]["loaded"], types_in(old)) == (2, {"version": "double"})


def test_names_in_other_scripts_words_of_filters_and_bare_json_arrive(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    values: list[Any] = [5, 1.5, True, "5", "en", None, [1], {"a": 1}]
    rows = [{"id": f"k{at}", "text": "the one", "标题": f"题{at}", "in": at, "any": value} for at, value in enumerate(values)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    metadata = {"标题": None, "in": None, "any": "what"}
    source = {"kind": "jsonl", "uri": str(tmp_path / "rows.jsonl"), "id": "id", "text": "text", "metadata": metadata}
    job = make_job(tmp_path, tiny_model, source=source, compute__processes=1)
    result = run_flow(job)
    assert (result["rows"]["loaded"], result["verified"]) == (8, True)
    assert any(note == "column 'in' is stored as field 'in_', since 'in' is a word of Milvus' filter language" for note in result["notes"])
    found = {hit.id: hit.fields for hit in ask(parse_job(job), 8, text="the one", expression='in_ < 8 and Biao_Ti like "题%"')}
    assert [found[f"k{at}"]["what"] for at in range(8)] == values
    with closing(target_for(parse_job(job).target, token=None)) as target:
        spec = target.collection(str(target.resolve("rows"))).describe()
    assert [(field.name, field.column) for field in spec.fields] == [("Biao_Ti", "标题"), ("in_", "in"), ("what", "any")]
