"""By which root the shards of a source are named: see `tasks.domain.shards.file_places`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import commit_document, write_document
from tasks.adapters.checkpoint.places.entry_places import EntryPlaces
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.errors import Permanent
from tasks.domain.shards.file_places import FirstRoots, KnownAs
from tasks.domain.shards.removal import Roots, below
from tasks.domain.shards.seal import Standing
from tasks.domain.shards.shard import Shard


class SourcePlaces:
    """What the root of a plan is known as. Many threads may use one; nothing is asked before it is needed.

    Args:
        checkpoint: of the corpus under the plan's encoder.
        roots: gives the current and the previous root of the source.
        target: gives the ledger of the plan's collection.
        shards: gives every planned shard, by its id without a root.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, roots: Callable[[], Roots], target: Callable[[], str], shards: Callable[[], Iterable[Shard]]
    ) -> None:
        self._checkpoint, self._roots, self._target, self._shards = checkpoint, roots, target, shards
        self._first: FirstRoots | None = None
        self._settled = False  # whether that is written down
        self._names: dict[str, str] = {}
        self._here: DigestSet | None = None
        self._listed: list[str] | None = None  # every ledger that has a collection
        self._lock = threading.RLock()

    @property
    def first(self) -> FirstRoots:
        """The roots that are in no id; what they would be, where no run has settled them."""
        with self._lock:
            if self._first is None:
                kept = self._checkpoint.read(self._checkpoint.layout.first_roots, FirstRoots)
                self._first, self._settled = kept or self._found(), kept is not None
            return self._first

    def known_as(self, root: str) -> str:
        """The root that a root's files are known by: its own, or the one that they were moved from."""
        with self._lock:
            if root not in self._names:
                roots = self._roots()
                old = roots.moved_from if root == roots.now else None
                self._names[root] = self._noted(old or root)
            return self._names[root]

    def in_id(self, shard: Shard) -> str:
        """The root that belongs in the id of a shard; "": none. `shard`: by its id without a root."""
        first, root = self.first, self.known_as(shard.span.files[0].root)
        if first.certain:
            return "" if root in first.roots else root
        return "" if shard.id in self._placed_here() else root

    def settle(self, root: str) -> None:
        """Write down what the ids of this run rest on, before the first seal: that a root is the first, and where it was moved from.

        Of two runs at once the first one's word counts, for both.
        """
        checkpoint, name = self._checkpoint, self.known_as(root)
        with self._lock:
            mine = self.first
            if not self._settled:
                self._first = commit_document(checkpoint.store, checkpoint.layout.first_roots, mine, damages=checkpoint.damages)
                self._settled = True
        if self._roots().moved_from and name != self._noted(root):
            write_document(checkpoint.store, checkpoint.layout.place(root), KnownAs(root=root, known_as=name))

    def place_of(self, shard: str) -> str | None:
        """Where the first file of a sealed shard stood, as far as a ledger tells."""
        for target in self._ledgers():
            entry = self._checkpoint.read_load(target, shard)
            if entry and entry.place:
                return entry.place
        return None

    def _noted(self, root: str) -> str:
        def is_of(found: KnownAs) -> None:
            if found.root != root:
                raise Permanent(f"root {found.root[:200]!r} under the name of another")

        found = self._checkpoint.read(self._checkpoint.layout.place(root), KnownAs, is_of)
        return found.known_as if found else root

    def _found(self) -> FirstRoots:
        """Of a corpus without a note: new, or of an older version."""
        checkpoint = self._checkpoint
        if next(iter(checkpoint.store.list(checkpoint.layout.shards)), None) is None:
            return FirstRoots(roots=(self.known_as(self._roots().now),), certain=True)
        known = sorted({self._noted(root) for target in self._ledgers() for root in checkpoint.roots(target)})
        return FirstRoots(roots=tuple(known), certain=len(known) == 1)

    def _ledgers(self) -> list[str]:
        """The ledgers of the corpus' collections, the plan's own first."""
        checkpoint, own = self._checkpoint, self._target()
        with self._lock:
            if self._listed is None:
                found = (checkpoint.read(stored.key, Standing) for stored in checkpoint.store.list(checkpoint.layout.all_ledgers))
                self._listed = sorted({standing.target for standing in found if standing})
        return [own, *(target for target in self._listed if target != own)]

    def _placed_here(self) -> DigestSet:
        """Planned shards, by their ids without a root, that a ledger says to be of their files' place."""
        with self._lock:
            if self._here is None:
                self._here = DigestSet(shard for target in self._ledgers() for shard in self._placed_by(target))
            return self._here

    def _placed_by(self, target: str) -> Iterator[str]:
        """Those of one ledger. An entry of which nobody knows the place is taken to be of the collection's present root."""
        checkpoint, roots, own = self._checkpoint, self._roots(), target == self._target()
        noted, placed, known_as = DigestSet(checkpoint.noted_ids(target)), EntryPlaces(checkpoint), self.known_as(roots.now)

        def placed_here(shard: Shard) -> str | None:
            entry = checkpoint.read_load(target, shard.id)
            place = placed.of(entry).place if entry else ""
            if place is None:
                return shard.id if own else None
            here = roots.moved(place) == shard.place or place == below(known_as, shard.group)
            return shard.id if here else None

        found = ahead(placed_here, (shard for shard in self._shards() if shard.id in noted))
        return (shard for shard in found if shard)
