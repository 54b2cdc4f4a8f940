"""A real Redis on the loopback, which keeps nothing on disk. Its program is the machine's own (Debian: `apt-get install redis-server`)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from tasks.adapters.processes.process_guard import die_with_parent
from tests.servers.milvus import free_ports

START_SECONDS = 60.0


@contextlib.contextmanager
def redis_process(*settings: str) -> Iterator[str]:
    """The URI of a server of one's own. `settings`: more of its command line."""
    program = shutil.which("redis-server") or pytest.skip("no Redis on this machine: apt-get install redis-server")
    (port,) = free_ports(1)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *settings]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent) as server:  # noqa: PLW1509 - it makes one system call
        try:
            _wait(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            redis.Redis(port=port).ping()
        except redis.AuthenticationError:
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
