"""An engine checks every shard against the law "Accounted rows" before it seals: the reader's count, the parts', and the quarantine's."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.engines.group_encoder import GroupEncoder, OpenShard
from tasks.adapters.engines.row_reuse import RowReuse
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.pieces import Tally
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardFailed, ShardSealed
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Part
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tests.builders.checkpoints import IDENTITY, RECORD, SHARD, put_part

FILE = FileVersion(path="/rows/docs.parquet", name="docs.parquet", size=1, version="1")
OURS = Shard(id=SHARD, span=Span(files=(FILE,), extent=Whole(), rows=10))


def seal(folder: Path, monkeypatch: pytest.MonkeyPatch, *, read: int) -> tuple[list[Permanent], list[EncodingEvent], Checkpoint]:
    """What becomes of a shard of which the reader counted so many rows, and the encoders put ten into a part."""
    checkpoint = Checkpoint(open_store(f"memory://{secrets.token_hex(8)}"), "pydocs", IDENTITY.fingerprint)
    done: Future[Part] = Future()
    done.set_result(put_part(checkpoint, folder, 0, 10))
    told: list[EncodingEvent] = []
    place: Any = SimpleNamespace(
        spec=SimpleNamespace(run="run"), job=SimpleNamespace(source=SimpleNamespace(chunking=None), cache=None), tell=told.append
    )
    group = ShardGroup(shards=(OURS,), record=RECORD, attempt="run")
    encoders: Any = None
    work = GroupEncoder(place, encoders, checkpoint, group, reuse=RowReuse(place), pin=lambda: None)
    digests = DigestFile(folder / "digests.parquet")
    waiting = OpenShard(shard=OURS, begun=time.monotonic(), adopted=[], digests=digests, tally=Tally(seen=read), parts=[done])
    monkeypatch.setattr(work, "_read", lambda _shard: waiting)
    return work.run(), told, checkpoint


def test_a_shard_that_adds_up_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, told, checkpoint = seal(tmp_path, monkeypatch, read=10)
    assert not failed
    assert told == [ShardSealed(seal=checkpoint.read_seal(SHARD), encoded=10, adopted=0)]


@pytest.mark.parametrize("read", [9, 11])
def test_one_that_does_not_fails_by_name_and_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int) -> None:
    (error,), (event,), checkpoint = seal(tmp_path, monkeypatch, read=read)
    assert isinstance(event, ShardFailed)
    assert (event.shard, event.leaf, event.text) == (SHARD, "permanent", str(error))
    assert "docs.parquet" in str(error)
    assert f"{read} source rows, but 10 in parts" in str(error)
    assert checkpoint.read_seal(SHARD) is None
