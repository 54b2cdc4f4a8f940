"""The REST import of Milvus 2.4 and later, and of Zilliz Cloud: a local server that holds requests to what their references document.

Nobody here reaches Zilliz Cloud or a Milvus of 2.4 and later: this holds a client to the documents, no more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "s3cret"
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
class ImportService:
    """Answers as the references say, and refuses what they do not know."""

    kind: str
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    answers: list[tuple[int, object]] = field(default_factory=list)  # instead, one for each request
    imports: Callable[[str, list[str]], dict[str, object]] | None = None  # files into a collection; what a job says of itself
    jobs: dict[str, dict[str, object]] = field(default_factory=dict)

    def answer(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, object]:
        self.bodies.append(body)
        self.keys.append(headers.get("Idempotency-Key", ""))
        if self.answers:
            return self.answers.pop(0)
        if headers["Authorization"] != f"Bearer {TOKEN}" or headers["Content-Type"] != "application/json":
            return 200, {"code": 1800, "message": "user hasn't authenticated"}
        verb = path.removeprefix("/v2/vectordb/jobs/import/")
        known = {"create": CREATE, "describe": DESCRIBE}[verb][self.kind]
        wrong = [name for name, value in body.items() if name not in known or not isinstance(value, known[name])]
        if wrong or (verb == "create" and not REQUIRED[self.kind] <= body.keys()):
            return 200, {"code": 1802, "message": f"missing or unknown parameters: {wrong}"}
        return (
            self._create(body) if verb == "create" else (200, {"code": 0, "data": {"jobId": body["jobId"], **self._state(body["jobId"])}})
        )

    def _create(self, body: dict[str, Any]) -> tuple[int, object]:
        files = body.get("files") or body["objectUrls"]
        if len(files) > 1024 or not all(isinstance(file, list) and len(file) == 1 and isinstance(file[0], str) for file in files):
            return 200, {"code": 1100}
        job = f"job-{len(self.bodies)}"
        if self.imports:
            self.jobs[job] = self.imports(body["collectionName"], [file for (file,) in files])
        return 200, {"code": 0, "data": {"jobId": job}}

    def _state(self, job: str) -> dict[str, object]:
        return self.jobs.get(job, {"state": "Importing", "progress": 40})


@contextmanager
def serving(service: ImportService) -> Iterator[ImportService]:
    """On a port of its own, at `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, told = service.answer(self.path, self.headers, body)
            data = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    service.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield service
    finally:
        http.shutdown()
        http.server_close()
