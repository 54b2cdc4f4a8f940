"""What is Milvus' own: the wire, Milvus Lite's file, strangers' collections, servers that are away or die."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient
from pymilvus.client.prepare import Prepare

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus.collection_schema import build_schema
from tasks.adapters.milvus.filters import keys_in_pages, literal
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.protobuf import as_request
from tasks.adapters.milvus.row_dicts import as_rows, fit_fields
from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.targets.registry import target_for
from tasks.domain.errors import BadInput, OutcomeUnknown, Transient
from tasks.domain.job.target import MilvusSettings
from tests.builders.collections import ARRAYS, DIM, FIELDS, part_of, spec_of, stranger
from tests.servers.milvus import MilvusProcess, milvus_process

NULLS = {"url": [None, "ü"], "year": [None, -1], "price": [0.25, None], "fresh": [None, True], "tags": ['{"a": [1]}', None]}
WHOLE = {"labels": [["ü", ""], ["x"]], "sizes": [[1, 2], [-1]], "shares": [[0.5], [1e300]], "flags": [[True], [False]]}
NULL_ARRAYS = {"labels": [["ü", ""], None], "sizes": [None, [-1]], "shares": [None, [0.5]], "flags": [[True], None]}


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[MilvusCollection]:
    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    yield made
    made.target.close()


# ---- the wire ----


@pytest.mark.parametrize("nulls", [True, False])
@pytest.mark.parametrize("vectors", ["float32", "float16", "bfloat16", "int8"])
def test_columns_and_row_dicts_are_the_same_bytes(nulls, vectors):
    """The fast way in is what pymilvus' public way sends, byte for byte.

    But for an empty array, of which pymilvus does not say what it is an array of.
    """
    spec = spec_of("c", fields=(*FIELDS, *ARRAYS), vector_type=vectors)
    columns = columns_of(spec)
    fields = build_schema(spec).to_dict()["fields"]
    for field in fields:
        field["nullable"] = nulls and field.get("nullable", False)
    nullable = {field["name"] for field in fields if field["nullable"]}
    part = fit_fields(part_of(["a", "bü"], fields=spec.fields, **NULLS, **(NULL_ARRAYS if nulls else WHOLE)), columns, nullable)
    expected = Prepare.row_upsert_param("c", as_rows(part, columns, DIM, vectors=vectors), "", fields)
    request = as_request(part, columns, DIM, collection="c", nullable=nullable, vectors=vectors)
    assert request.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_a_pymilvus_that_hides_its_stub_is_served_with_row_dicts(lite, monkeypatch):
    monkeypatch.setattr("tasks.adapters.milvus.milvus_collection.stub_of", lambda _: None)
    lite.ensure(spec_of("c"))
    lite.upsert(part_of(["a", "b"]))
    assert lite.count() == 2


# ---- keys ----


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), unique=True, max_size=60), st.integers(2, 9), st.randoms())
def test_pages_give_each_key_once_in_whatever_order_a_server_answers(keys, page, shuffler):
    bounds = {literal(key): key for key in keys}

    def fits(key: str, expression: str) -> bool:
        if expression == "all":
            return True
        inner, side, bound = re.fullmatch(r'\((.*)\) and id (>|<=) (".*?")', expression, re.DOTALL).groups()
        return fits(key, inner) and (key > bounds[bound]) == (side == ">")

    def query(expression: str, limit: int) -> list[str]:
        found = [key for key in keys if fits(key, expression)]
        shuffler.shuffle(found)
        return found[:limit]

    def count(expression: str) -> int:
        return sum(fits(key, expression) for key in keys)

    assert sorted(keys_in_pages(query, "all", page, count=count)) == sorted(keys)


def test_a_literal_is_one_line_in_quotes():
    assert literal('a"b\\c\nd') == r'"a\"b\\c\nd"'


# ---- Milvus Lite's file ----

HOLD = """
import sys
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_has_is_named(tmp_path):
    path = tmp_path / "busy.db"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(BadInput, match=r"busy\.db: another process has this Milvus Lite file open"):
                MilvusTarget(str(path)).collection("c").describe()
        finally:
            other.kill()


def test_a_closed_file_is_free_for_another_process(lite, tmp_path):
    lite.ensure(spec_of("c"))
    lite.target.close()
    held = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path / "t.db")], input="", capture_output=True, text=True, check=True)
    assert held.stdout == "held\n"


def test_what_was_written_is_there_after_reopening(lite):
    lite.ensure(spec_of("c"))
    lite.upsert(part_of(["a", "b"]))
    lite.target.point("live", "c")
    lite.target.close()
    assert (lite.describe(), lite.count(), lite.target.resolve("live")) == (spec_of("c"), 2, "c")


def test_closing_one_user_of_a_file_leaves_the_other_its_connection(lite, tmp_path):
    other = MilvusTarget(str(tmp_path / "t.db")).collection("d")
    lite.ensure(spec_of("c"))
    other.ensure(spec_of("d"))
    other.target.close()
    lite.upsert(part_of(["a"]))
    assert lite.count() == 1


def test_looking_does_not_make_the_file(lite, tmp_path):
    assert lite.describe() is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_named(tmp_path):
    target = MilvusTarget(str(tmp_path / "nowhere" / "yet" / "t.db"))
    target.collection("c").ensure(spec_of("c"))
    assert target.collection("c").describe()
    target.close()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"t\.db: .*file is a file, so no folder can be created in it"):
        MilvusTarget(str(tmp_path / "file" / "t.db")).collection("c").ensure(spec_of("c"))


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "t.db").write_text("SQLite format 3")
    with pytest.raises(BadInput, match=r"t\.db is not a Milvus Lite 3 database"):
        MilvusTarget(str(tmp_path / "t.db")).collection("c").describe()


def test_nothing_but_our_own_line_is_said(tmp_path, capfd):
    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    made.ensure(spec_of("c"))
    with pytest.raises(BadInput):
        MilvusTarget(str(tmp_path / "t.db")).point("c", "d")
    made.target.close()
    assert capfd.readouterr() == ("", "")


# ---- strangers ----


def test_a_strangers_collection_is_refused(lite, tmp_path):
    lite.ensure(spec_of("c"))
    stranger(str(tmp_path / "t.db"), "foreign")
    made = MilvusTarget(str(tmp_path / "t.db")).collection("foreign")
    for ask in (made.describe, lambda: made.ensure(spec_of("foreign")), made.count):
        with pytest.raises(BadInput, match=r"'foreign' .* was not made by .*Kitestring: choose another target\.collection"):
            ask()
    made.target.close()


@pytest.mark.server
def test_a_strangers_collection_on_a_server_is_refused(milvus_server):
    name = f"c_{uuid.uuid4().hex[:12]}"
    stranger(milvus_server.uri, name)
    made = MilvusTarget(milvus_server.uri).collection(name)
    with pytest.raises(BadInput, match="was not made by"):
        made.describe()
    made.target.close()


@pytest.mark.server
def test_a_servers_version_is_asked_once_for_a_connection(milvus_server, monkeypatch):
    """Each group of shards makes sure of the collection before it loads."""
    asked: list[str] = []
    ask = MilvusClient.get_server_version

    def version(client: MilvusClient, **how: float) -> str:
        asked.append(ask(client, **how))
        return asked[-1]

    monkeypatch.setattr(MilvusClient, "get_server_version", version)
    name = f"c_{uuid.uuid4().hex[:12]}"
    made = MilvusTarget(milvus_server.uri).collection(name)
    for _ in range(3):
        made.ensure(spec_of(name))
    assert len(asked) == 1
    made.target.close()
    made.check(spec_of(name))
    assert len(asked) == 2
    made.target.close()


# ---- servers that are away ----


@pytest.mark.server
def test_a_server_that_has_to_work_through_many_batches_is_waited_for(milvus_server, monkeypatch):
    """2.3.5 works some 20 ms at each, before it answers a strong read."""
    name = f"c_{uuid.uuid4().hex}"
    made = MilvusTarget(milvus_server.uri, batch_rows=1).collection(name)
    made.ensure(spec_of(name))
    made.upsert(part_of([str(row) for row in range(600)]))
    made._ready()
    with monkeypatch.context() as hurry:
        hurry.setattr("tasks.adapters.milvus.reading.CALL_SECONDS", 0.5)
        hurry.setattr(made._connection, "patience", RetryPolicy(seconds=0.5))
        with pytest.raises(Transient, match="reading"):
            made.count()
        made.flush_and_index()
    assert made.count() == 600  # in its own time: a strong read of a server with nothing else to do may take half a second
    made.target.close()


def test_a_server_that_is_down_is_said_quickly_and_without_the_token():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://user:pa55@127.0.0.1:{closed.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(
            BadInput, match=r"Milvus at http://127\.0\.0\.1:\d+ does not answer: start it or correct target\.uri"
        ) as refused:
            target_for(MilvusSettings(uri=uri), token="root:s3cret").collection("c").describe()
    assert time.monotonic() - began < 10
    assert "s3cret" not in str(refused.value)
    assert "pa55" not in str(refused.value)


def test_a_uri_that_is_none_is_refused():
    with pytest.raises(BadInput, match=r"target\.uri 'ftp://x' is not a Milvus address"):
        target_for(MilvusSettings(uri="ftp://x"), token=None).collection("c").describe()


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[MilvusProcess]:
    with milvus_process() as server:
        yield server


@pytest.mark.server
def test_a_server_killed_and_restarted_between_batches_loses_nothing(mortal_server):
    """One call to upsert spans a kill -9 and a restart; the caller sees neither."""
    made = MilvusTarget(mortal_server.uri, patience=RetryPolicy(seconds=90), batch_rows=20).collection("c")
    made.ensure(spec_of("c"))
    ids = [f"k{i}" for i in range(2_000)]
    sent: list[int] = []
    send = made._sender

    def kill_in_the_middle(batch, spec, columns):
        sent.append(batch.num_rows)
        if len(sent) == 50:
            mortal_server.kill()
            threading.Thread(target=mortal_server.start).start()
        return send(batch, spec, columns)

    made._sender = kill_in_the_middle  # type: ignore[method-assign]
    made.upsert(part_of(ids))
    assert (made.count("s1"), sorted(made.keys("s1"))) == (2_000, sorted(ids))
    made.target.close()


@pytest.mark.server
def test_a_server_that_stays_away_leaves_the_outcome_unknown(mortal_server):
    made = MilvusTarget(mortal_server.uri, patience=RetryPolicy(seconds=60)).collection("d")
    made.ensure(spec_of("d"))
    mortal_server.kill()
    slept: list[float] = []
    made._connection.patience = RetryPolicy(seconds=20, sleep=slept.append, clock=lambda: sum(slept))
    with pytest.raises(OutcomeUnknown, match="upserting 1 rows into 'd' at http"):
        made.upsert(part_of(["a"]))
    made.target.close()
