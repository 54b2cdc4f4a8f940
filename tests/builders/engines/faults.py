"""What goes wrong on a host, wherever it is: files beside the source that every process of a test looks at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.adapters.engines import group_encoder, sample_rate
from tasks.adapters.engines.documents.shard_rows import shard_rows
from tasks.adapters.engines.host import Host
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.adapters.rows.builder import Prepared
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import Transient
from tasks.domain.job.job import Job
from tasks.domain.shards.shard import Shard
from tests.builders.engines.hash_encoders import HashEncoders

RECALL, VECTORS = Host.recall, HashEncoders.vectors
WRITES = {store: store.write for store in (MemoryStore, FolderStore)}


def folder_of(job: Job) -> Path:
    folder = Path(job.source.uri).parent / "faults"
    folder.mkdir(exist_ok=True)
    return folder


def break_shard(folder: Path, shard: str) -> None:
    """Reading it fails as nobody has foreseen."""
    (folder / f"breaks-{shard}").touch()


def refuse_part(folder: Path) -> None:
    """The store refuses the next part, for a moment."""
    (folder / "refuses").touch()


def hold(folder: Path) -> Path:
    """Every host stops at its next piece for as long as the file is there. Beside it there is one named `recalled` once one was asked for work."""
    held = folder / "held"
    held.touch()
    return held


def parts_written(folder: Path) -> list[str]:
    """The key of every part that the store was given, once for each time."""
    return (folder / "parts").read_text().split()


def install(folder: Path, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Have this process look at the files."""

    def reads(place: Workplace, shard: Shard, record: EncoderRecord) -> Iterator[Prepared]:
        if (folder / f"breaks-{shard.id}").exists():
            raise RuntimeError("a mistake")
        return shard_rows(place, shard, record)

    def writes(store: Any, key: str, data: bytes | Path) -> None:
        if "part-" in key:
            with (folder / "parts").open("a") as written:
                written.write(f"{key}\n")
            try:
                (folder / "refuses").unlink()
            except FileNotFoundError:
                pass
            else:
                raise Transient("the store is away for a moment")
        WRITES[type(store)](store, key, data)

    put(group_encoder, "shard_rows", reads)
    put(sample_rate, "LEAST_SECONDS", 0.1)
    _install_hold(folder, put)
    for store in WRITES:
        put(store, "write", writes)


def _install_hold(folder: Path, put: Callable[[Any, str, Any], None]) -> None:
    def encodes(self: HashEncoders, texts: list[str]) -> Any:
        while (folder / "held").exists():
            time.sleep(0.02)
        return VECTORS(self, texts)

    def recall(self: Host, attempt: str, shard: str) -> None:
        RECALL(self, attempt, shard)
        (folder / "recalled").touch()

    put(HashEncoders, "vectors", encodes)
    put(Host, "recall", recall)
