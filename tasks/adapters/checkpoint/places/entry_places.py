"""Locations of the files of a ledger's entries."""

from __future__ import annotations

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.past_reports import root_read_by
from tasks.domain.shards.removal import below
from tasks.domain.shards.seal import Loaded


class EntryPlaces:
    """Adds the place to entries of an older format without one, from the report of their run."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._roots: dict[str, str | None] = {}

    def of(self, entry: Loaded) -> Loaded:
        """Return the entry with its place; unchanged if no report names the root."""
        if entry.place is not None:
            return entry
        if entry.run not in self._roots:
            self._roots[entry.run] = root_read_by(self._checkpoint, entry.run)
        root = self._roots[entry.run]
        if not root:
            return entry
        is_single_file = root.endswith(f"/{entry.group}")  # the source was a single file
        return entry.model_copy(update={"place": root if is_single_file else below(root, entry.group)})
