"""A run that a Prefect worker on the hub carries out, for a server there: what a person of the UI sees and cancels."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.machines import HUB

POOL, PORT = "kitestring", 4200
API = f"http://127.0.0.1:{PORT}/api"
CODES = {"COMPLETED": 0, "FAILED": 1, "CRASHED": 1, "CANCELLED": 1}
ASK = """
import json, sys, urllib.request as r
data = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(json.dumps(json.load(r.urlopen(r.Request(sys.argv[1], data=data, headers={"Content-Type": "application/json"}), timeout=20))))
"""


class PrefectOnHub:
    """A server; from the first run of a deployment on with the project's pool, that deployment and a worker."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._has_worker = cluster, False
        self._env = cluster.env | {"PREFECT_HOME": "/tmp/ui", "PREFECT_API_URL": API}

    @property
    def env(self) -> dict[str, str]:
        """With which a run tells this server of itself and starts none."""
        return {"PREFECT_API_URL": API}

    def start(self) -> None:
        self._begin("server", "start", "--host", "127.0.0.1", "--port", PORT)
        self._cluster.wait(lambda: self._cluster.port_is_open(HUB, PORT, "127.0.0.1"), "Prefect's server")

    def _start_worker(self) -> None:
        self._prefect("work-pool", "create", POOL, "--type", "process")
        self._prefect("deploy", "--prefect-file", "deployments/prefect.yaml", "--name", "backfill")
        self._begin("worker", "start", "--pool", POOL)
        self._has_worker = True

    def run(self, job: Path) -> DeployedRun:
        if not self._has_worker:
            self._start_worker()
        said = self._prefect("deployment", "run", "embed-corpus/backfill", "--params", json.dumps({"job": yaml.safe_load(job.read_text())}))
        return DeployedRun(self, next(line.partition(":")[2].strip() for line in said.splitlines() if "UUID:" in line))

    def ask(self, path: str, body: object = None) -> Any:
        data = [] if body is None else [json.dumps(body)]
        return json.loads(self._cluster.net.run(HUB, [sys.executable, "-c", ASK, f"{API}{path}", *data], self._env))

    def _prefect(self, *arguments: object) -> str:
        return self._cluster.net.run(HUB, [sys.executable, "-m", "prefect", "--no-prompt", *arguments], self._env)

    def _begin(self, *arguments: object) -> None:
        with self._cluster.net.log(HUB, f"prefect-{arguments[0]}") as log:
            command = [sys.executable, "-m", "prefect", *arguments]
            self._cluster.net.start(HUB, command, self._env, stdout=log, stderr=subprocess.STDOUT)


class DeployedRun:
    """As far as a trial asks it like a process."""

    def __init__(self, prefect: PrefectOnHub, flow_run: str) -> None:
        self._prefect, self.id, self._asked = prefect, flow_run, 0.0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and time.monotonic() - self._asked > 2:
            self._asked = time.monotonic()
            self.returncode = CODES.get(self._prefect.ask(f"/flow_runs/{self.id}")["state_type"])
        return self.returncode

    def cancel(self) -> None:
        """As the button does it."""
        self._prefect.ask(f"/flow_runs/{self.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
