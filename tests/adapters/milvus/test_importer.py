"""The REST imports, against a local server that holds requests to what Milvus and Zilliz Cloud document.

Nobody here reaches Zilliz Cloud or a Milvus of 2.4 and later: these tests hold the client to the documents, no more. What a
real server does with an import is tested in tests/flows/imports/test_import.py, on Milvus 2.3.5.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tasks.adapters.milvus.importer import RestImporter
from tasks.domain.errors import BadInput, OutcomeUnknown, Permanent, Transient
from tasks.domain.shards.import_attempt import ImportState

CREATE = {  # field: its type; both references name these and no others
    "milvus": {"dbName": str, "collectionName": str, "partitionName": str, "files": list, "options": dict},
    "zilliz": {
        "clusterId": str,
        "dbName": str,
        "collectionName": str,
        "partitionName": str,
        "objectUrls": list,
        "accessKey": str,
        "secretKey": str,
        "token": str,
    },
}
DESCRIBE = {"milvus": {"dbName": str, "jobId": str}, "zilliz": {"clusterId": str, "jobId": str}}
REQUIRED = {"milvus": {"collectionName", "files"}, "zilliz": {"clusterId", "collectionName", "objectUrls"}}


@dataclass
class Documented:
    """Answers as the references say, and refuses what they do not know."""

    kind: str
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    answers: list[tuple[int, object]] = field(default_factory=list)  # instead, one for each request

    def answer(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, object]:
        self.bodies.append(body)
        self.keys.append(headers.get("Idempotency-Key", ""))
        if self.answers:
            return self.answers.pop(0)
        if headers["Authorization"] != "Bearer s3cret" or headers["Content-Type"] != "application/json":
            return 200, {"code": 1800, "message": "user hasn't authenticated"}
        verb = path.removeprefix("/v2/vectordb/jobs/import/")
        known = {"create": CREATE, "describe": DESCRIBE}[verb][self.kind]
        wrong = [name for name, value in body.items() if name not in known or not isinstance(value, known[name])]
        if wrong or (verb == "create" and not REQUIRED[self.kind] <= body.keys()):
            return 200, {"code": 1802, "message": f"missing or unknown parameters: {wrong}"}
        if verb == "create":
            files = body.get("files") or body["objectUrls"]
            alike = all(isinstance(file, list) and len(file) == 1 and isinstance(file[0], str) for file in files)
            return 200, {"code": 0, "data": {"jobId": f"job-{len(self.bodies)}"}} if alike and len(files) <= 1024 else {"code": 1100}
        return 200, {"code": 0, "data": {"jobId": body["jobId"], "state": "Importing", "progress": 40}}


@pytest.fixture(params=["milvus", "zilliz"])
def server(request: pytest.FixtureRequest) -> Iterator[Documented]:
    documented = Documented(request.param)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, told = documented.answer(self.path, self.headers, body)
            data = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    documented.url = f"http://127.0.0.1:{http.server_port}"
    yield documented
    http.shutdown()
    http.server_close()


@pytest.fixture
def importer(server: Documented, monkeypatch: pytest.MonkeyPatch) -> RestImporter:
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
