"""A proxy in front of the S3 server that fails requests as it is told: real connections, real bytes.

It also lets one conditional put through at a time. S3 decides a race on its own; moto looks and then puts,
with room for another put between the two.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

import pytest

from tests.servers.s3 import S3Bucket

HANG_SECONDS = 20  # an upper bound: the client's own timeout ends it, or the fixture does
NOT_FOR_BOTH = {"transfer-encoding", "connection", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a request."""

    does: Literal["answer", "drop before", "drop after", "answer after", "cut", "hang", "overtake", "forget"]
    status: int = 0
    code: str = ""
    body: bytes = b""  # of the one who overtakes; of an answer, in place of an error's


def answers(status: int, code: str = "") -> Fault:
    """The server answers so and does nothing."""
    return Fault(does="answer", status=status, code=code)


def answers_after(status: int, code: str = "") -> Fault:
    """The server does as it was asked, and then says that it failed."""
    return Fault(does="answer after", status=status, code=code)


def refuses_keys(**codes: str) -> Fault:
    """A DeleteObjects that is answered well, and removes none of these keys for the reasons given, nor any other."""
    errors = "".join(f"<Error><Key>{key}</Key><Code>{code}</Code><Message>no</Message></Error>" for key, code in codes.items())
    return Fault(does="answer", status=200, body=f"<DeleteResult>{errors}</DeleteResult>".encode())


def overtaken_by(body: bytes) -> Fault:
    """Another writer's put of the same key arrives first; ours is dropped."""
    return Fault(does="overtake", body=body)


DROPPED_BEFORE = Fault(does="drop before")  # the connection breaks, nothing was done
DROPPED_AFTER = Fault(does="drop after")  # the connection breaks, all was done
CUT_SHORT = Fault(does="cut")  # half of the answer's body comes
HANGS = Fault(does="hang")  # no answer
FORGETS_CONDITIONS = Fault(does="forget")  # a server of before conditional writes: the condition is not looked at


@dataclass(slots=True)
class FaultyS3:
    """The proxy's script, and what went through it."""

    bucket: S3Bucket
    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    conditional: threading.Lock = field(default_factory=threading.Lock)
    _script: list[tuple[str, str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def then(self, method: str, *faults: Fault, where: str = "") -> None:
        """The next requests with this method, and this in their path, meet these faults, one each, in order."""
        self._script += [(method, where, fault) for fault in faults]

    def count(self, method: str) -> int:
        return sum(1 for m, _ in self.seen if m == method)

    def take(self, method: str, path: str) -> Fault | None:
        """Note a request, and what is to happen to it."""
        with self._lock:
            self.seen.append((method, path))
            for place, (wanted, where, fault) in enumerate(self._script):
                if wanted == method and where in path:
                    del self._script[place]
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyS3
    timeout = HANG_SECONDS
    disable_nagle_algorithm = True  # headers and body are two writes: 40 ms between them otherwise

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.faulty.take(self.command, self.path)
        if fault is None:
            self._reply(*self._forward(body))
        else:
            self._fail(fault, body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _fail(self, fault: Fault, body: bytes) -> None:
        if fault.does == "hang":
            self.faulty.released.wait(HANG_SECONDS)
        if fault.does == "overtake":
            self.faulty.bucket.put(urlsplit(self.path).path.split("/", 2)[2], fault.body)
        if fault.does in ("drop after", "answer after", "cut"):
            status, headers, answer = self._forward(body)
            if fault.does == "cut":
                self._reply(status, headers, answer, sent=len(answer) // 2)
        if fault.does == "forget":
            del self.headers["If-None-Match"]
            self._reply(*self._forward(body))
        elif fault.does.startswith("answer"):
            self._reply(
                fault.status, [], f"<Error><Code>{fault.code}</Code><Message>no</Message></Error>".encode() if fault.code else fault.body
            )
        else:
            self.close_connection = True

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = urlsplit(self.faulty.bucket.server.url)
        with self.faulty.conditional if self.headers.get("If-None-Match") else nullcontext():
            connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"connection", "expect"}}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        return answer.status, answer.getheaders(), content

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, *, sent: int | None = None) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # a HEAD's length is not its body's
            if name.lower() not in NOT_FOR_BOTH:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


@contextmanager
def serving(faulty: FaultyS3) -> Iterator[FaultyS3]:
    """The proxy at work; `faulty.url` says where."""
    handler = type("Handler", (_Handler,), {"faulty": faulty})
    server = _Server(("127.0.0.1", 0), handler)
    faulty.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield faulty
    finally:
        faulty.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def faulty_s3(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The proxy before the test's bucket; AWS_ENDPOINT_URL leads to it. Without a script it only forwards."""
    with serving(FaultyS3(bucket=s3_bucket)) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
        yield faulty
