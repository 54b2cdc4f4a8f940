"""Kitestring as a contender: the real command, on a job of its own, in a folder that is not there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.watch import Watched, watch

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of the command: its watch, its marks (seconds since it began) and the answer that it printed."""

    watched: Watched
    marks: dict[str, Any]

    @property
    def ready(self) -> float:
        """When the last rank had its model, in seconds."""
        return float(self.marks["rank ready"])

    @property
    def work_cpu_seconds(self) -> float:
        """Of all processes, since then."""
        return self.watched.cpu_seconds - float(self.marks["CPU seconds until ready"])


@contextmanager
def own_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(folder: Path) -> dict[str, str]:
    """This one, with Prefect's settings and database in the folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}


def make_home(folder: Path) -> None:
    """Prefect's database, which the first run ever on a machine makes, in about seven seconds."""
    upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    subprocess.run(upgrade, env=environment(folder), check=True, capture_output=True, timeout=120)


def job_of(folder: Path, rows: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """A job on one Parquet file; a setting's name is its path with `__` for the dots."""
    document: dict[str, Any] = {
        "corpus": "bench",
        "source": {"kind": "parquet", "uri": str(rows), "id": "id", "text": ["text"]},
        "encoder": {"kind": "sentence-transformers", "model": str(model)},
        "checkpoint": str(folder / "checkpoint"),
        "target": {"uri": str(folder / "bench.db"), "collection": "bench"},
    }
    for path, value in settings.items():
        place = document
        *parents, last = path.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return document


def run(folder: Path, job: Mapping[str, Any], *, every: float = 5.0, home: Path | None = None) -> Ran:
    """`kitestring run`, with marks. `home`: where `make_home` was; otherwise this run makes its own."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(dict(job)))
    marks = folder / "marks.json"
    command = [sys.executable, "-m", "tests.benchmarks.traced", str(marks), "run", str(path), "--json"]
    watched = watch(command, cwd=folder, env=environment(home or folder), every=every)
    return Ran(watched=watched, marks=json.loads(marks.read_text()))
