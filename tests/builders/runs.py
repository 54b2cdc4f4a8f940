"""What a run under way or a finished one has left: keys in the collection, parts, how old they are."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pymilvus import MilvusClient

from tasks.adapters.targets.registry import open_collection
from tasks.domain.job.job import Target


def keys_in(database: str, collection: str = "rows") -> list[str]:
    """Every key that the alias' collection holds, with repetitions if there were any."""
    target = Target(uri=database, collection=collection)
    probe = open_collection(target, collection, token=None)
    try:
        name = probe.promoted()
    finally:
        probe.close()
    assert name
    opened = open_collection(target, name, token=None)
    try:
        client: MilvusClient = opened._connection.client  # type: ignore[attr-defined]
        client.load_collection(name)
        rows = client.query_iterator(name, batch_size=1_000, filter="", output_fields=["id"])
        found: list[str] = []
        while batch := rows.next():
            found += [row["id"] for row in batch]
        return found
    finally:
        opened.close()


def ids(first: int, stop: int) -> list[str]:
    return [f"row-{row}" for row in range(first, stop)]


def parts_in(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.rglob("part-*.parquet"))


def until(holds: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def age(folder: Path, days: float) -> None:
    """Everything in the store was written so long ago."""
    then = time.time() - days * 24 * 3600
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
