"""What a run under way or a finished one has left: keys in the collection, parts, how old they are."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pymilvus import MilvusClient

from tasks.adapters.checkpoint.part_files import read_part
from tasks.adapters.milvus.milvus_target import MilvusTarget


def keys_in(database: str, collection: str = "rows") -> list[str]:
    """Every key that the alias' collection holds, with repetitions if there were any."""
    with closing(MilvusTarget(database)) as target:
        name = target.resolve(collection)
        assert name
        client: MilvusClient = target._connection.client
        client.load_collection(name)
        rows = client.query_iterator(name, batch_size=1_000, filter="", output_fields=["id"])
        found: list[str] = []
        while batch := rows.next():
            found += [row["id"] for row in batch]
        return found


def ids(first: int, stop: int) -> list[str]:
    return [f"row-{row}" for row in range(first, stop)]


def parts_in(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.rglob("part-*.parquet"))


def vectors_in(checkpoint: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Of every part, by key."""
    tables = [read_part(part.read_bytes())[0] for part in parts_in(checkpoint)]
    return {
        key: np.array(vector) for table in tables for key, vector in zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True)
    }


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
