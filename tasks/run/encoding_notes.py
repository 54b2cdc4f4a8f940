"""Record the events of an engine in the run's journal."""

from __future__ import annotations

from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.domain.encoding.encoding_events import (
    DocumentMoved,
    EncodingEvent,
    ShardAmended,
    ShardFailed,
    ShardLoaded,
    ShardReused,
    ShardSealed,
)
from tasks.run.progress import Journal


def note_event(journal: Journal, damages: Damages, event: EncodingEvent) -> None:
    """Record an event.

    Args:
        journal: of the run.
        damages: the damaged documents that the run knows of; documents that an engine moved aside are added.
        event: from the run's engine.
    """
    match event:
        case ShardSealed():
            journal.note_seal(event.seal, by_this_run=event.encoded, cached=event.cached, adopted=event.adopted)
        case ShardReused():
            if event.seal.shard not in journal.sealed:  # a shard that this run sealed is counted already
                journal.note_reuse(event.seal)
        case ShardFailed():
            journal.note_failed(event.shard, event.name, event.error)
        case ShardAmended():
            journal.note_amendment(event.shard, event.recovered)
        case ShardLoaded():
            if event.replaced:
                journal.replaced.add(event.shard)
            journal.note_load(event.entry)
        case DocumentMoved():
            damages.name(event.key, event.line)
            journal.note_repair(event.line)
