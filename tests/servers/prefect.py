"""A real Prefect server with a home of its own, and the commands that a user gives it, each bounded in time.

`prefect_server` is shared by a session. Work pools and deployments are made through the real command line, and
runs are carried out by a real worker in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.processes.process_guard import start_guarded
from tests.servers.milvus import free_ports
from tests.servers.session import remove_later, share

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
BUSY_SECONDS = 60.0
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectServer:
    """Where the server listens (`api`), its folder, and what one does with it. Every call ends or raises."""

    api: str
    home: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process that is to use this server, with the checkout on its path as an install puts it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        ours = {"PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.home), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
        return inherited | ours

    def prefect(self, *arguments: str, seconds: float = 60) -> str:
        """`prefect ARGUMENTS` in the checkout; what it printed."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"prefect {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def request(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """GET, or POST with a body, or another method; the server's answer. Asks again while its database is busy, as Prefect's client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}{path}", data=data, headers={"Content-Type": "application/json"}, method=method)
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer) if answer.status != HTTPStatus.NO_CONTENT else None
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def delete(self, path: str) -> None:
        self.request(path, method="DELETE")

    def create_process_pool(self, name: str) -> None:
        self.prefect("work-pool", "create", name, "--type", "process", "--overwrite")

    def install(self, **more: str) -> str:
        """deployments/install.py, with more in its environment; what it printed."""
        command = [sys.executable, "deployments/install.py"]
        pipe = subprocess.PIPE
        done = subprocess.run(
            command, cwd=ROOT, env=self.env | more, stdout=pipe, stderr=subprocess.STDOUT, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def create_run(self, name: str, parameters: dict[str, Any]) -> str:
        """A run of a deployment, made as the run form of the UI makes it; its id."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return str(self.request(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"])

    def set_state(self, run: str, **state: Any) -> str:
        """Ask for a state as the UI's buttons do; what the server said to it (ACCEPT, REJECT, ...)."""
        return str(self.request(f"/flow_runs/{run}/set_state", {"state": state, "force": state.pop("force", False)})["status"])

    def deploy(self, file: Path = ROOT / "deployments" / "prefect.yaml") -> str:
        """Every deployment of a prefect.yaml; what the command printed."""
        return self.prefect("deploy", "--prefect-file", str(file), "--all")

    def deployment(self, name: str) -> dict[str, Any]:
        """As the server knows it, by 'flow/deployment'."""
        found: dict[str, Any] = self.request(f"/deployments/name/{name}")
        return found

    def run_deployment(self, name: str, parameters: dict[str, Any] | None = None) -> str:
        """`prefect deployment run`; the id of the flow run. Parameters replace the deployment's by name."""
        given = ["--params", json.dumps(parameters)] if parameters else []
        said = self.prefect("deployment", "run", name, *given)
        return next(line.partition(":")[2].strip() for line in said.splitlines() if "UUID:" in line)

    def work_once(self, pool: str, seconds: float = 240) -> str:
        """A process worker that takes what is due, carries it out and ends; what it printed."""
        return self.prefect("worker", "start", "--pool", pool, "--run-once", seconds=seconds)

    def state(self, run: str) -> str:
        """COMPLETED, FAILED, ..., or that of a run under way."""
        return str(self.request(f"/flow_runs/{run}")["state_type"])

    def wait(self, run: str, seconds: float = 60) -> str:
        """The terminal state of a run."""
        deadline = time.monotonic() + seconds
        while (state := self.state(run)) not in TERMINAL:
            assert time.monotonic() < deadline, f"run {run} is still {state} after {seconds} s"
            time.sleep(0.2)
        return state

    def logs(self, run: str) -> str:
        """The log lines of a run and of its tasks, in order."""
        lines = self.request("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200})
        return "\n".join(line["message"] for line in lines)


def _wait_until_healthy(server: PrefectServer, guard: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and guard.poll() is None:
        try:
            server.request("/health")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the Prefect server did not start:\n{log.read_text()[-2000:]}")


@contextmanager
def prefect_process(more: Mapping[str, str] | None = None) -> Iterator[PrefectServer]:
    """A server of one's own, behind the guard: it ends with this process, whatever ends that. `more`: settings of the server."""
    with tempfile.TemporaryDirectory(prefix="prefect-", ignore_cleanup_errors=True) as folder:
        (port,) = free_ports(1)
        server = PrefectServer(api=f"http://127.0.0.1:{port}/api", home=Path(folder))
        guard = start_server(server, more)
        try:
            yield server
        finally:
            stop_server(guard)


def start_server(server: PrefectServer, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Serve at the server's address; returns its guard when it is healthy. Again after a kill: its data is in its folder."""
    log, port = server.home / "server.log", server.api.rsplit(":", 1)[1].partition("/")[0]
    settings = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "PREFECT_UI_ENABLED": "0",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with log.open("ab") as out:
        guard = start_guarded(command, env=server.env | settings | dict(more or {}), stdout=out.fileno(), stderr=out.fileno())
    try:
        _wait_until_healthy(server, guard, log)
    except BaseException:
        stop_server(guard)
        raise
    return guard


def stop_server(guard: subprocess.Popen[bytes]) -> None:
    """End the server and wait for it; returns at once where it has ended."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(10)


@pytest.fixture(scope="session")
def prefect_server() -> PrefectServer:
    """One server for the session; its guard ends it."""
    server = share(prefect_process())
    remove_later(server.home)
    return server
