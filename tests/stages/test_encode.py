"""A run checks every shard against the law "Accounted rows" before it seals: the reader's count, the parts', and the quarantine's."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.pieces import Tally
from tasks.domain.shards.seal import Part
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tasks.run.progress import Journal
from tasks.stages import encode
from tests.builders.checkpoints import FACTS, IDENTITY, SHARD, put_part

FILE = FileVersion(path="/rows/docs.parquet", name="docs.parquet", size=1, version="1")
OURS = Shard(id=SHARD, span=Span(files=(FILE,), extent=Whole(), rows=10))


def seal(folder: Path, *, read: int) -> tuple[Any, Checkpoint]:
    """What becomes of a shard of which the reader counted so many rows, and the ranks put ten into a part."""
    checkpoint = Checkpoint(open_store(f"memory://{secrets.token_hex(8)}"), "pydocs", IDENTITY.fingerprint)
    done: Future[Part] = Future()
    done.set_result(put_part(checkpoint, folder, 0, 10))
    run = SimpleNamespace(id="run", journal=Journal())
    plan = SimpleNamespace(checkpoint=checkpoint, record=SimpleNamespace(facts=FACTS), settle_encoder=lambda: None)
    waiting = encode._Open(shard=OURS, attempt="run", begun=time.monotonic(), adopted=[], tally=Tally(seen=read), parts=[done])
    return encode._seal_or_discard(run, plan, waiting), checkpoint  # type: ignore[arg-type]


def test_a_shard_that_adds_up_is_sealed(tmp_path: Path) -> None:
    failed, checkpoint = seal(tmp_path, read=10)
    assert not failed
    assert checkpoint.read_seal(SHARD) is not None


@pytest.mark.parametrize("read", [9, 11])
def test_one_that_does_not_fails_by_name_and_is_not_sealed(tmp_path: Path, read: int) -> None:
    failed, checkpoint = seal(tmp_path, read=read)
    ((shard, error),) = failed
    assert shard == OURS
    assert "docs.parquet" in str(error)
    assert f"{read} source rows, but 10 in parts" in str(error)
    assert checkpoint.read_seal(SHARD) is None
