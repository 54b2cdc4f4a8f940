"""Running Kitestring as its users do: the flow in this process, or the command in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tests.builders.models import WORDS, Clip
from tests.servers.prefect import PrefectServer

SECONDS = 240


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Kitestring:
    """The command line, against a Prefect server that is already up, in a folder of its own."""

    folder: Path
    env: Mapping[str, str]

    def job(self, document: Mapping[str, Any], name: str = "job.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(dict(document)))
        return path

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command under way."""
        command = [sys.executable, "-m", "flows", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env={**os.environ, **self.env}, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *arguments: object) -> Command:
        """A command to its end."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            finally:
                process.kill()
        return Command(code=process.returncode, out=out, err=err)

    def here(self, *arguments: object) -> Command:
        """A command in this process, where all is imported already; not one that starts an encoder."""
        from flows.command_line.cli import app  # noqa: PLC0415 - takes seconds

        result = CliRunner(env=self.env).invoke(app, [*map(str, arguments)], prog_name="kitestring")
        return Command(code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture
def kitestring(tmp_path: Path, prefect_server: PrefectServer) -> Kitestring:
    """The command line."""
    folder = tmp_path / "here"
    folder.mkdir()
    return Kitestring(folder=folder, env=prefect_server.env)


@pytest.fixture
def no_process_left(prefect_server: PrefectServer) -> Iterator[None]:
    """Nothing that the test started may still run after it."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before and _is_ours(p)]
    assert not psutil.wait_procs(left, timeout=10)[1]


def _is_ours(process: psutil.Process) -> bool:
    try:
        return any(part.startswith(("tasks.", "torch.distributed", "flows")) for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def workers_of(parent: int) -> list[psutil.Process]:
    """Guard, agent and ranks below a process."""
    return [p for p in psutil.Process(parent).children(recursive=True) if _is_ours(p)]


def text_of(row: int) -> str:
    """A text of its own for each row, 3 to 40 words."""
    return " ".join(WORDS[(row * 7 + i * (1 + row % 5)) % 20] for i in range(3 + row % 38)) + f" {row}"


def write_rows(path: Path, first: int, stop: int, *, row_group: int | None = None, **columns: list[Any]) -> list[str]:
    """A Parquet file of rows [first, stop); their keys."""
    keys = [f"row-{row}" for row in range(first, stop)]
    table = pa.table(
        {"id": pa.array(keys, pa.string()), "text": pa.array([text_of(r) for r in range(first, stop)], pa.string()), **columns}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)
    return keys


def make_job(folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """A job on Parquet files in `folder/rows`, into a folder and a Milvus Lite file."""
    document: dict[str, Any] = {
        "corpus": "rows",
        "source": {"kind": "parquet", "uri": str(folder / "rows"), "id": "id", "text": ["text"]},
        "encoder": {"kind": "sentence-transformers", "model": str(model), "precision": "float32"},
        "checkpoint": str(folder / "checkpoint"),
        "target": {"uri": str(folder / "rows.db"), "collection": "rows"},
        "compute": {"processes": 2},
    }
    for path, value in settings.items():
        place = document
        *parents, last = path.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return document


def image_job(folder: Path, clip: Clip, source: dict[str, Any], **settings: Any) -> dict[str, Any]:
    encoder = {"kind": "open-clip", "architecture": clip.architecture, "pretrained": clip.pretrained, "precision": "float32"}
    return make_job(folder, folder, source=source, encoder=encoder, **settings)
