"""Loads a sealed shard into a collection and records it in the ledger; used by the flow and by remote hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.targets.part_loading import PartLoaded, load_part
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Loaded, Part, Seal, intent_of
from tasks.domain.shards.shard import Shard


def load_sealed_shard(
    checkpoint: Checkpoint,
    collection: Collection,
    shard: Shard,
    seal: Seal,
    *,
    ledger: str,
    run: str,
    scratch: Path,
    send: Callable[[pa.Table], PartLoaded] | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> Loaded:
    """Record an intent, load every part, then record the ledger entry.

    Args:
        checkpoint: the checkpoint with the seal.
        collection: an existing collection.
        shard: the planned shard.
        seal: its effective seal.
        ledger: the name of the collection's ledger.
        run: the run that loads it.
        scratch: a private folder.
        send: loads the rows of a part, possibly without vectors that the collection has already; None: `load_part`.
        go_on: called before each part and before the entry; raises Transient if the load must stop.

    Raises:
        Damaged: a part is damaged, or `gc` is removing it.
    """
    begun = time.monotonic()
    intent = intent_of(shard, seal, run=run, at=utc_now())
    checkpoint.intend_load(ledger, intent)
    sent = PartLoaded(rows=0, cut=0)
    checkpoint.refuse_condemned(seal)

    def load(part: Part) -> pa.Table:
        nonlocal sent
        go_on()
        rows = checkpoint.sealed_part(part)
        sent += send(rows) if send else load_part(collection, rows, seal.shard)
        return rows

    ShardKeys(checkpoint, scratch).keep(seal, load)
    go_on()
    if sent.vectors_kept and checkpoint.read_load(ledger, shard.id) != intent:  # another run loads this shard too: send vectors as well
        return load_sealed_shard(checkpoint, collection, shard, seal, ledger=ledger, run=run, scratch=scratch, go_on=go_on)
    took = round(time.monotonic() - begun, 3)
    entry = intent.model_copy(update={"state": "loaded", "cut": sent.cut, "seconds": took, "loaded_at": utc_now()})
    if sent.vectors_kept:
        entry = entry.model_copy(update={"format_version": 3, "vectors_kept": sent.vectors_kept})
    checkpoint.record_load(ledger, entry)
    return entry
