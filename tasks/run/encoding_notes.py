"""What an engine tells, as the run's journal keeps it."""

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
    """Take in an event.

    Args:
        journal: the run's.
        damages: what the run itself has found of the corpus: what an engine moved aside is missing for the run as well.
        event: of the run's engine.
    """
    match event:
        case ShardSealed():
            journal.note_seal(event.seal, by_this_run=event.encoded, cached=event.cached, adopted=event.adopted)
        case ShardReused():
            if event.seal.shard not in journal.sealed:  # not one that this run sealed before
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
