"""A real Prometheus (Debian's package) that scrapes one address several times a second."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.processes.process_guard import die_with_parent
from tests.servers.milvus import free_ports

START_SECONDS = 60.0
EVERY = "250ms"


def missing() -> str:
    """Why there is none; empty: there is one."""
    return "" if shutil.which("prometheus") else "this machine has no prometheus (Debian: apt-get install prometheus)"


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """`url`: of its API."""

    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that answer a query now. Raises urllib.error.HTTPError where it is none."""
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def value(self, query: str) -> float | None:
        """The newest value of the one series that answers; None: none does."""
        series = self.ask(query)
        return float(series[0]["value"][1]) if series else None


@contextmanager
def prometheus(target: str) -> Iterator[Prometheus]:
    """It scrapes `target`, as host:port."""
    with tempfile.TemporaryDirectory() as folder:
        (port,) = free_ports(1)
        config = Path(folder) / "prometheus.yml"
        scrape = {"job_name": "kitestring", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": EVERY, "scrape_timeout": EVERY}, "scrape_configs": [scrape]}))
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509 - it calls the kernel alone
        try:
            _wait(f"http://127.0.0.1:{port}/-/ready", process)
            yield Prometheus(url=f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError("Prometheus did not start")
