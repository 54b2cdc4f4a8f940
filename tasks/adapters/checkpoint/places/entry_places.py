"""Where the files of a ledger's entries stood."""

from __future__ import annotations

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.past_reports import root_read_by
from tasks.domain.shards.removal import below
from tasks.domain.shards.seal import Loaded


class EntryPlaces:
    """Entries without a place (an older format) get the place from the report of their run."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._roots: dict[str, str | None] = {}

    def of(self, entry: Loaded) -> Loaded:
        """The entry with its place; without one where no report tells."""
        if entry.place is not None:
            return entry
        if entry.run not in self._roots:
            self._roots[entry.run] = root_read_by(self._checkpoint, entry.run)
        root = self._roots[entry.run]
        if not root:
            return entry
        alone = root.endswith(f"/{entry.group}")  # the source was this one file
        return entry.model_copy(update={"place": root if alone else below(root, entry.group)})
