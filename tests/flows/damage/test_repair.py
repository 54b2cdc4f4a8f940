"""What the proof finds: a run loads it again from the seals, `repair` mends all of it, and whoever only looks removes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient
from typer.testing import CliRunner

from flows.command_line.cli import app
from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.object_store.registry import open_store
from tasks.domain.errors import BadInput, RunFailed
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows

commands = CliRunner()
pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
REPAIR = "flows.repair.repair_from_seals"
ROWS = 30


@pytest.fixture(params=["lite", "server"])
def document(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three files of ten rows."""
    monkeypatch.setattr("tasks.run.seals.unaccounted_rows.LOADED_SECONDS", 10.0)  # what is spoiled stays so, however long it is waited for
    monkeypatch.setattr("tasks.run.seals.unaccounted_rows.LOOKING_SECONDS", 1.0)
    for number in range(3):
        first = number * 10
        numbers = list(range(first, first + 10))
        write_rows(tmp_path / "rows" / f"{number}.parquet", first, first + 10, n=numbers, lang=["en"] * 10)
    where = {} if request.param == "lite" else {"target__uri": request.getfixturevalue("milvus_server").uri}
    name = f"c_{uuid.uuid4().hex[:10]}"
    return make_job(tmp_path, tiny_model, source__metadata=["n", "lang"], target__collection=name, **where)


@contextmanager
def raw(document: dict[str, Any]) -> Iterator[tuple[MilvusClient, str]]:
    """Past Kitestring."""
    target = document["target"]
    client = MilvusClient(target["uri"])
    name = client.describe_alias(target["collection"])["collection_name"]
    client.load_collection(name)
    try:
        yield client, name
    finally:
        client.close()


def rows_of(client: MilvusClient, name: str, where: str = 'id != ""') -> list[dict[str, Any]]:
    return list(client.query(name, filter=where, output_fields=["id", "vector", "text", "n", "lang", "shard"], consistency_level="Strong"))


def spoil(document: dict[str, Any]) -> None:
    """A row of each kind of fault; on a server also a key that comes twice."""
    with raw(document) as (client, name):
        found = {row["id"]: row for row in rows_of(client, name)}
        changed = [
            found["row-1"] | {"vector": [0.0] * len(found["row-1"]["vector"])},
            found["row-2"] | {"text": ""},
            found["row-3"] | {"n": 77},
            found["row-4"] | {"shard": "f" * 32},
            found["row-5"] | {"id": "strange"},
            found["row-12"] | {"id": "unknown", "shard": "e" * 32},
        ]
        client.upsert(name, changed)
        client.delete(name, ids=["row-6"])
        if not document["target"]["uri"].endswith(".db"):
            client.insert(name, [found["row-15"] | {"shard": "e" * 32}, found["row-22"]])


def command(document: dict[str, Any], tmp_path: Path, *arguments: str) -> Any:
    job = tmp_path / "job.json"
    job.write_text(json.dumps(document))
    name, *others = arguments
    return commands.invoke(app, [*name.split(), str(job), *others])


def keys_and_texts(document: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    with raw(document) as (client, name):
        assert client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"] == ROWS
        return {row["id"]: (row["text"], row["n"], row["lang"], row["shard"], tuple(row["vector"])) for row in rows_of(client, name)}


def ledger(document: dict[str, Any]) -> list[str]:
    return sorted(found.key for found in open_store(document["checkpoint"]).list("") if "/loads/" in found.key)


def test_every_difference_is_listed_by_its_kind_and_repaired_from_the_seals(
    run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]
) -> None:
    run_flow(document)
    right = keys_and_texts(document)
    assert command(document, tmp_path, "diff", "--full", "--json").exit_code == 0
    spoil(document)
    listed = command(document, tmp_path, "diff", "--full", "--json")
    assert listed.exit_code == 4, listed.output
    found = {(each["key"], each["kind"]) for each in json.loads(listed.stdout)}
    expected = {("row-1", "vector"), ("row-2", "text"), ("row-3", "n"), ("row-4", "shard"), ("strange", "extra"), ("row-6", "absent")}
    expected |= {("row-4", "unaccounted"), ("unknown", "unaccounted")}
    assert found >= expected
    if not document["target"]["uri"].endswith(".db"):
        assert ("row-22", "doubled") in found
        assert ("row-15", "unaccounted") in found
    plain = command(document, tmp_path, "diff")
    assert {line.split("  ")[0] for line in plain.stdout.splitlines()} >= {"- row-6", "+ strange", "+ unknown"}
    proof = command(document, tmp_path, "verify", "--full")
    assert proof.exit_code == 4
    assert "no seal accounts for" in proof.stdout

    repaired = run_flow(document, REPAIR)
    assert repaired["verified"] is True
    assert any("removed" in note for note in repaired["notes"])
    assert keys_and_texts(document) == right
    assert command(document, tmp_path, "diff", "--full").exit_code == 0
    assert command(document, tmp_path, "verify", "--full").exit_code == 0
    assert command(document, tmp_path, "status").exit_code == 0
    assert run_flow(document, REPAIR)["notes"] == []


def test_a_run_loads_again_what_its_proof_finds_once_and_says_so(run_flow: RunFlow, document: dict[str, Any]) -> None:
    run_flow(document)
    right = keys_and_texts(document)
    for entrypoint in ("flows.embed.embed_corpus", "flows.replay.replay_seals"):
        with raw(document) as (client, name):
            (row,) = rows_of(client, name, 'id == "row-11"')
            client.upsert(name, [row | {"lang": "xx"}, row | {"id": "strange"}])
        mended = run_flow(document, entrypoint)
        assert mended["verified"] is True
        (note,) = [note for note in mended["notes"] if "proof" in note]
        assert "1.parquet" in note
        assert "loaded again from their seals" in note
        assert keys_and_texts(document) == right


def test_who_looks_removes_nothing_and_the_ledger_remembers(run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]) -> None:
    run_flow(document)
    with raw(document) as (client, name):
        client.delete(name, ids=["row-11"])
    for _ in range(2):
        assert command(document, tmp_path, "verify").exit_code == 4
    entries = [key for key in ledger(document) if "verified" not in key and "/roots/" not in key]
    assert sum(key.endswith(".intent.json") for key in entries) == 1
    assert len(entries) == 4
    assert command(document, tmp_path, "status").exit_code == 3
    write_rows(tmp_path / "rows" / "1.parquet", 10, 15, n=[0] * 5, lang=["en"] * 5)  # the file loses rows meanwhile
    assert run_flow(document)["verified"] is True
    with raw(document) as (client, name):
        assert len(rows_of(client, name)) == 25
    assert not any(key.endswith(".intent.json") for key in ledger(document))


def test_a_collection_that_searches_are_not_led_to_is_said_to_be_so(run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]) -> None:
    document["target"]["promote"] = "manual"
    run_flow(document)
    proof = command(document, tmp_path, "verify")
    assert proof.exit_code == 4
    assert "kitestring promote" in proof.stdout
    status = command(document, tmp_path, "status", "--json")
    assert (status.exit_code, json.loads(status.stdout)["searched"]) == (3, False)
    assert command(document, tmp_path, "promote").exit_code == 0
    assert command(document, tmp_path, "verify").exit_code == 0
    assert command(document, tmp_path, "status").exit_code == 0


def test_the_seed_of_a_sample_is_another_each_time_and_can_be_given(run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]) -> None:
    run_flow(document)
    seeds = [json.loads(command(document, tmp_path, "verify", "--json").stdout)["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]
    again = json.loads(command(document, tmp_path, "verify", "--json", "--seed", str(seeds[0])).stdout)
    assert (again["seed"], again["proved"]) == (seeds[0], True)


def test_corpora_that_share_a_collection_are_told_apart(run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]) -> None:
    """By their ledgers, or by the job's word."""
    run_flow(document)
    write_rows(tmp_path / "others" / "x.parquet", 100, 107, n=list(range(7)), lang=["de"] * 7)
    source = document["source"] | {"uri": str(tmp_path / "others")}
    other = document | {"corpus": "others", "source": source}
    assert run_flow(other)["verified"] is True
    proof = json.loads(command(document, tmp_path, "verify", "--json").stdout)
    assert (proof["proved"], proof["foreign"], proof["unaccounted"]) == (True, 7, 0)
    apart = other | {"checkpoint": str(tmp_path / "elsewhere")}
    told = command(document, tmp_path, "verify", "--json")
    assert told.exit_code == 0
    shared = apart | {"target": apart["target"] | {"shared": True}}
    assert run_flow(shared)["verified"] is True
    proof = json.loads(command(shared, tmp_path, "verify", "--json").stdout)
    assert (proof["proved"], proof["foreign"]) == (True, 30)
    with pytest.raises(RunFailed, match="30 of 37 rows in the collection belong to no sealed shard"):
        run_flow(apart)
    assert run_flow(shared, REPAIR)["verified"] is True
    with raw(document) as (client, name):
        assert len(rows_of(client, name)) == 37


def test_files_that_left_the_source_of_an_append_are_proved_with_the_rest(
    run_flow: RunFlow, tmp_path: Path, document: dict[str, Any]
) -> None:
    run_flow(document)
    (tmp_path / "rows" / "2.parquet").unlink()
    assert run_flow(document)["verified"] is True
    proof = json.loads(command(document, tmp_path, "verify", "--full", "--json").stdout)
    assert (proof["proved"], proof["rows"], proof["retained"], proof["total"]) == (True, 20, 10, 30)
    assert command(document, tmp_path, "status").exit_code == 0
    with raw(document) as (client, name):
        (row,) = rows_of(client, name, 'id == "row-25"')
        client.upsert(name, [row | {"text": "another"}])
        client.delete(name, ids=["row-26"])
    assert command(document, tmp_path, "verify", "--full").exit_code == 4
    assert run_flow(document, REPAIR)["verified"] is True
    assert len(keys_and_texts(document)) == ROWS


def test_there_has_to_be_a_collection_to_repair(run_flow: RunFlow, document: dict[str, Any]) -> None:
    run_flow(document)
    with pytest.raises(BadInput, match="loads it"):
        run_flow(document | {"target": document["target"] | {"collection": "never_made"}}, REPAIR)


def test_others_in_one_store_are_found_by_their_ledgers(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    ledgers = [Ledger(store, corpus, "f" * 32) for corpus in ("ours", "theirs")]
    for each, shard in zip(ledgers, ("a" * 32, "b" * 32), strict=True):
        store.write(each.layout.loaded("t", shard), b"{}")
        store.write(each.layout.loaded("another", "c" * 32), b"{}")
        store.write(each.layout.verified("t"), b"{}")
    store.write(ledgers[1].layout.intent("t", "d" * 32), b"{}")
    assert sorted(ledgers[0].loads_of_others("t")) == ["b" * 32, "d" * 32]
