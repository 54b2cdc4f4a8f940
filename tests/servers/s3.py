"""A real S3 server on the loopback: moto's, started as a process and stopped by its id."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tasks.adapters.processes.process_guard import die_with_parent
from tests.servers.session import remove_later, share

START_SECONDS = 60
STOP_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Where the server listens, and its log."""

    url: str
    log: Path

    def client(self) -> Any:
        """A client that needs no environment; for arranging a test and for looking at what it left."""
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=config,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Bucket:
    """A fresh bucket, and the AWS variables set so that any SDK finds it."""

    server: S3Server
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """Put an object; its URI."""
        self.server.client().put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        body: bytes = self.server.client().get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        """Every key below a prefix, in the order of S3."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]


def free_port() -> int:
    """A port of the loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{server.url}/moto-api/data.json", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"moto_server did not start: {server.log.read_text()[-2000:]}")


@contextmanager
def s3_process(*, ends_with_us: bool = False) -> Iterator[S3Server]:
    """A moto server of one's own; sets nothing in the environment."""
    with tempfile.TemporaryDirectory() as folder:
        server = S3Server(url=f"http://127.0.0.1:{free_port()}", log=Path(folder) / "moto.log")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", server.url.rsplit(":", 1)[1]]
        with server.log.open("wb") as log:
            before = die_with_parent if ends_with_us else None
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=before)  # noqa: PLW1509 - it calls the kernel alone
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """One moto server for the session."""
    server = share(s3_process(ends_with_us=True))
    remove_later(server.log.parent)
    return server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A bucket of one test's own, found through the AWS variables as a user of MinIO or Ceph would set them."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = S3Bucket(server=s3_server, name=f"test-{secrets.token_hex(6)}")
    s3_server.client().create_bucket(Bucket=bucket.name)
    return bucket
