"""Files that rows name are read from where the job allows, and from nowhere else, whatever a name or a server says."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.files import row_files, web_files
from tasks.adapters.files.row_files import read_file
from tasks.adapters.files.web_files import why_refused
from tasks.domain.errors import BadInput
from tasks.domain.job.references import References

OPEN = References(root="s3://lake/docs", opened=("http", "https"))


class Web(BaseHTTPRequestHandler):
    """/to/... sends on to what follows; /busy is busy twice, then not; /short ends early."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Web.asked.append(self.path)
        if self.path.startswith("/to/"):
            self._say(302, b"", Location=self.path.removeprefix("/to/"))
        elif self.path == "/busy" and Web.asked.count("/busy") < 3:
            self._say(503, b"")
        elif self.path == "/gone":
            self._say(404, b"")
        else:
            self._say(200, b"picture")

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body) + 9 * (self.path == "/short")), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(web_files, "PAUSES_SECONDS", (0.01, 0.01))
    Web.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_source_on_this_machine_keeps_its_own_files_and_sends_nobody_on_to_others(web: str) -> None:
    whole = References(root=web)
    assert read_file(f"{web}/a.jpg", whole) == b"picture"
    assert read_file(f"{web}/to/{web}/b.jpg", whole) == b"picture"
    with pytest.raises(FileNotFoundError):
        read_file(f"{web}/gone", whole)
    for place in ("http://169.254.169.254/latest/meta-data/", "http://localhost:1/x", "file:///etc/hostname", "https://host/x"):
        with pytest.raises(BadInput, match=r"outside the source"):
            read_file(f"{web}/to/{place}", whole)
    opened = References(root=web, opened=("http", "https"))
    for place, words in {"http://169.254.169.254/latest/": "link-local", "http://[::ffff:7f00:1]:1/x": "this machine"}.items():
        with pytest.raises(BadInput, match=words):
            read_file(f"{web}/to/{place}", opened)
    with pytest.raises(BadInput, match="redirects more than 5 times"):
        read_file(f"{web}/to/" + f"{web}/to/" * 6, opened)


def test_a_busy_server_is_asked_again_and_half_a_file_is_none(web: str) -> None:
    assert read_file(f"{web}/busy", References(root=web)) == b"picture"
    with pytest.raises(BadInput, match="did not answer"):
        read_file(f"{web}/short", References(root=web))
    assert Web.asked == ["/busy"] * 3 + ["/short"] * 3


def test_a_name_that_resolves_to_this_machine_is_not_connected_to(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(web.rpartition(":")[2])
    for name in ("localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::]"):
        with pytest.raises(BadInput, match="this machine, which no row may name"):
            read_file(f"http://{name}:{port}/a.jpg", OPEN)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))])
    for references in (OPEN, References(root="s3://lake", opened=(f"http://public.example:{port}/",))):
        with pytest.raises(BadInput, match=r"public\.example is an address of this machine"):
            read_file(f"http://public.example:{port}/a.jpg", references)
    assert Web.asked == []


def test_private_networks_are_reached_by_name_alone_and_metadata_services_never() -> None:
    for address in ("10.0.0.1", "192.168.1.1", "172.16.0.1", "100.100.100.200", "fd12::1", "64:ff9b::10.0.0.1", "::ffff:10.0.0.1"):
        assert "private network" in why_refused(address, named=False)
        assert not why_refused(address, named=True)
    never = ["127.0.0.1", "169.254.169.254", "fe80::1%eth0", "::1", "0.0.0.0", "fd00:ec2::254", "224.0.0.1"]
    for address in [*never, "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:7f00:1::"]:
        assert why_refused(address, named=True)
    assert not why_refused("93.184.216.34", named=False)


def test_what_is_no_plain_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/proc/self/environ")
    for place, words in {
        "/dev/zero": "is not a file",
        f"{tmp_path}/pipe": "is not a file",
        f"{tmp_path}/link": "part of the system",
    }.items():
        with pytest.raises(BadInput, match=words):
            read_file(place, References(root=str(tmp_path)))
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(row_files, "LARGEST_FILE", 4)
    with pytest.raises(BadInput, match="more than 4 bytes"):
        read_file(f"{tmp_path}/large", None)
