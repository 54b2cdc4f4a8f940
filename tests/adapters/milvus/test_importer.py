"""The REST imports, against a local server that holds requests to what Milvus and Zilliz Cloud document (`tests.servers.import_service`).

What a real server does with an import is tested in tests/flows/imports/test_import.py, on Milvus 2.3.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.adapters.milvus.importer import RestImporter
from tasks.domain.errors import BadInput, OutcomeUnknown, Permanent, Transient
from tasks.domain.shards.import_attempt import ImportState
from tests.servers.import_service import ImportService, serving


@pytest.fixture(params=["milvus", "zilliz"])
def server(request: pytest.FixtureRequest) -> Iterator[ImportService]:
    with serving(ImportService(request.param)) as service:
        yield service


@pytest.fixture
def importer(server: ImportService, monkeypatch: pytest.MonkeyPatch) -> RestImporter:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "k3y")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return RestImporter(server.url, token="s3cret", database="db", cluster="in03-0123" if server.kind == "zilliz" else "")


def test_a_job_is_started_as_documented_with_a_key_that_makes_it_one_job(importer, server):
    files = [f"kitestring/{number:06d}.parquet" for number in range(2_300)]
    assert importer.start("docs_0123", files, idempotency_key="run-1") == ["job-1", "job-2", "job-3"]
    sent = [file for body in server.bodies for (file,) in body.get("files") or body["objectUrls"]]
    assert sent == files
    assert server.keys == ["run-1-0", "run-1-1000", "run-1-2000"]
    importer.start("docs_0123", files, idempotency_key="run-1")
    assert server.keys[3:] == server.keys[:3]


def test_its_progress_is_asked_for_as_documented(importer):
    assert importer.look("job-1") == ImportState(state="running", percent=40)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"state": "Pending", "progress": 0}, ImportState(state="running")),
        ({"state": "Completed", "progress": 100}, ImportState(state="done", percent=100)),
        ({"state": "Failed", "progress": 30, "reason": "bad file"}, ImportState(state="failed", percent=30, reason="bad file")),
    ],
)
def test_every_state_is_read(importer, server, told, state):
    server.answers.append((200, {"code": 0, "data": told}))
    assert importer.look("job-1") == state


@pytest.mark.parametrize("answer", [(500, {}), (200, b"<html>"), (503, b"")])
def test_silence_while_starting_leaves_the_outcome_unknown_and_while_asking_nothing(importer, server, answer):
    server.answers += [answer, answer]
    with pytest.raises(OutcomeUnknown):
        importer.start("docs", ["a"], idempotency_key="k")
    with pytest.raises(Transient):
        importer.look("job-1")


def test_a_refusal_is_told_without_the_token_or_the_keys(importer, server):
    server.answers.append((200, {"code": 1800, "message": "collection not found"}))
    with pytest.raises(Permanent, match=r"collection not found \(code 1800\)") as refused:
        importer.start("docs", ["a"], idempotency_key="k")
    assert "s3cret" not in str(refused.value)
    assert "k3y" not in str(refused.value)


@pytest.mark.parametrize("server", ["zilliz"], indirect=True)
def test_zilliz_cloud_is_given_the_keys_that_read_the_files_and_their_lack_is_said(importer, server, monkeypatch):
    importer.start("docs", ["s3://bucket/a.parquet"], idempotency_key="k")
    assert (server.bodies[0]["accessKey"], server.bodies[0]["secretKey"]) == ("reader", "k3y")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadInput, match="AWS_SECRET_ACCESS_KEY"):
        importer.start("docs", ["s3://bucket/a.parquet"], idempotency_key="k")
