"""What a collection can be made of, all the way: arrays, a partition key, vectors of another type."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.command_line.cli import app
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tasks.run.preflight import inspect_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, text_of, write_rows
from tests.servers.milvus import MilvusProcess

commands = CliRunner()
pytestmark = [pytest.mark.timeout(300)]
REPLAY = "flows.replay.replay_seals"


def write(folder: Path, number: int, *, langs: list[str | None]) -> None:
    """A file of four rows."""
    tags = [["a", None, "b"], [], None, ["b"]]
    write_rows(folder / "rows" / f"{number}.parquet", number * 4, number * 4 + 4, tags=tags, lang=langs)


def command(folder: Path, document: dict[str, Any], *arguments: str) -> Any:
    """What a command answers with, which has to be 0."""
    job = folder / "job.json"
    job.write_text(json.dumps(document))
    done = commands.invoke(app, [arguments[0], str(job), *arguments[1:], "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def found(folder: Path, document: dict[str, Any], expression: str) -> dict[str, Any]:
    hits = command(folder, document, "search", text_of(5), "-k", "9", "--filter", expression)
    return {hit["id"]: hit["tags"] for hit in hits}


@pytest.mark.server
def test_arrays_and_a_partition_key_are_loaded_searched_mirrored_and_replayed(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, milvus_server: MilvusProcess
) -> None:
    write(tmp_path, 0, langs=["en"] * 4)
    write(tmp_path, 1, langs=["de", "de", None, "en"])
    settings = {"target__mode": "mirror", "source__metadata": ["lang", "tags"], "target__partition_key": "lang"}
    document = make_job(tmp_path, tiny_model, shards__rows=4, **settings)
    assert run_flow(document)["verified"]
    assert found(tmp_path, document, 'array_contains(tags, "b")') == {
        f"row-{row}": ["a", "b"] if row % 4 == 0 else ["b"] for row in (0, 3, 4, 7)
    }
    assert set(found(tmp_path, document, 'lang == "de"')) == {"row-4", "row-5"}

    write(tmp_path, 1, langs=["en", "de", "de", "en"])  # a row goes to another partition, and one gets its key
    again = run_flow(document)
    assert (again["verified"], again["rows"]["embedded"], again["rows"]["reused"]) == (True, 0, 8), "their texts are as they were"
    assert set(found(tmp_path, document, 'lang == "de"')) == {"row-5", "row-6"}
    assert command(tmp_path, document, "diff") == []

    without = {**document["target"], "partition_key": None}
    with pytest.raises(BadInput, match="partition key lang, the job none"):
        run_flow({**document, "target": without})
    elsewhere = {"uri": milvus_server.uri, "collection": f"replayed_{uuid.uuid4().hex[:8]}"}
    with pytest.raises(BadInput, match=r"partition_key needs Milvus 2\.4\.3, and this is Milvus 2\.3\.5"):
        run_flow({**document, "target": {**document["target"], **elsewhere}}, REPLAY)
    document["target"] = {**without, **elsewhere}
    assert run_flow(document, REPLAY)["verified"]
    assert set(found(tmp_path, document, 'lang == "de" and array_length(tags) == 0')) == {"row-5", "row-6"}


def test_a_partition_key_that_is_neither_whole_numbers_nor_texts_is_refused_with_those_that_are(tmp_path: Path, tiny_model: Path) -> None:
    write(tmp_path, 0, langs=["de"] * 4)
    settings = {"source__metadata": ["tags", "lang"], "target__partition_key": "tags"}
    with pytest.raises(BadInput, match=r"column 'tags' is varchar\[\], .*: of this source's metadata lang would do"):
        inspect_job(parse_job(make_job(tmp_path, tiny_model, **settings)))


def test_half_the_room_for_the_same_answers_and_back_again(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, narrow_milvus: str) -> None:
    """Seals keep float32, so that nothing is encoded again for another type of vectors."""
    for number in range(2):
        write(tmp_path, number, langs=["de"] * 4)
    settings = {"target__mode": "mirror", "source__metadata": ["tags"], "target__uri": narrow_milvus, "target__vector_type": "bfloat16"}
    settings["encoder__query_prompt"] = ""  # so that a row is the answer to its own text
    document = make_job(tmp_path, tiny_model, **settings)
    assert run_flow(document)["verified"]
    assert command(tmp_path, document, "verify", "--full")["proved"]
    assert next(iter(found(tmp_path, document, ""))) == "row-5"

    (tmp_path / "rows" / "0.parquet").unlink()
    again = run_flow(document)
    assert (again["verified"], again["rows"]["embedded"]) == (True, 0)
    assert command(tmp_path, document, "diff") == []

    plain = {"uri": str(tmp_path / "rows.db"), "collection": "rows"}
    replayed = run_flow({**document, "target": plain}, REPLAY)
    assert (replayed["verified"], replayed["rows"]["embedded"]) == (True, 0)


def test_another_index_is_built_by_the_next_run_or_replay_and_told_by_those_who_look(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    write(tmp_path, 0, langs=["de"] * 4)
    document = make_job(tmp_path, tiny_model)
    run_flow(document)
    exact = {**document, "target": document["target"] | {"index": {"type": "FLAT"}}}
    said = "has the index AUTOINDEX, the job FLAT: `kitestring run` rebuilds it"
    proof, promoted = command(tmp_path, exact, "verify"), command(tmp_path, exact, "promote")
    assert (proof["proved"], said in proof["notes"][0], said in promoted["told"][0]) == (True, True, True)
    for flow, index, had in (("flows.embed.embed_corpus", exact, "AUTOINDEX"), (REPLAY, document, "FLAT")):
        again = run_flow(index, flow)
        assert (again["verified"], again["rows"]["embedded"]) == (True, 0)
        assert any(note.startswith("index rebuilt: ") and f"had {had}, the job" in note for note in again["notes"]), again["notes"]
        assert command(tmp_path, index, "verify")["notes"] == []


def test_lists_that_were_sealed_as_json_stay_json(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: Any) -> None:
    """A shard is what its columns are: an older seal is not loaded as what it is not."""
    for number in range(2):
        write(tmp_path, number, langs=["de"] * 4)
    document = make_job(tmp_path, tiny_model, source__metadata=["tags"])
    with monkeypatch.context() as before:
        before.setattr("tasks.adapters.rows.column_types.is_list", lambda _: False)
        run_flow(document)
    for path in tmp_path.rglob("columns/*.json"):  # older versions kept no such document: the sealed parts tell it
        path.unlink()
    elsewhere = {**document["target"], "collection": "others"}
    again = run_flow({**document, "target": elsewhere})
    assert (again["verified"], again["rows"]["embedded"], again["rows"]["loaded"]) == (True, 0, 8)
