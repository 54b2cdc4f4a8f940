"""Determines the root by which the shards of a source are named: see `tasks.domain.shards.file_places`."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import commit_document, write_document
from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.checkpoint.places.entry_places import EntryPlaces
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.errors import Permanent
from tasks.domain.shards.file_places import FirstRoots, KnownAs
from tasks.domain.shards.removal import Roots, below
from tasks.domain.shards.seal import Standing
from tasks.domain.shards.shard import Shard


class SourcePlaces:
    """Resolves the roots of a plan to the roots by which they are known. Thread-safe; reads lazily.

    Args:
        checkpoint: checkpoint of the corpus under the plan's encoder.
        roots: returns the current and the previous root of the source.
        target: returns the ledger of the plan's collection.
        shards: returns every planned shard, with its id without a root.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, roots: Callable[[], Roots], target: Callable[[], str], shards: Callable[[], Iterable[Shard]]
    ) -> None:
        self._checkpoint, self._roots, self._target, self._shards = checkpoint, roots, target, shards
        self._first: FirstRoots | None = None
        self._settled = self._new = False  # whether that is committed, and whether by this object
        self._names: dict[str, tuple[str, ...]] = {}
        self._sealed: DigestSet | None = None
        self._here: DigestSet | None = None
        self._listed: list[str] | None = None  # every ledger with a collection
        self._lock = threading.RLock()

    @property
    def first(self) -> FirstRoots:
        """The roots that are not part of ids, as committed, or as this run would commit them."""
        with self._lock:
            if self._first is None:
                committed = self._checkpoint.read(self._checkpoint.layout.first_roots, FirstRoots)
                self._first, self._settled = committed or self._found(), committed is not None
            return self._first

    def known_as(self, root: str) -> str:
        """Return the root by which a root's files are known: itself, or the root that they were moved from."""
        return self.names(root)[0]

    def names(self, root: str) -> tuple[str, ...]:
        """Return all roots by which a root's files may be known. There are two if files were moved to a root that had shards before."""
        with self._lock:
            if root not in self._names:
                roots, own = self._roots(), self._noted(root)
                moved = roots.moved_from is not None and root == roots.now
                names = [own] if not moved or own != root or self._has_shards(root) else []
                names += [self._noted(roots.moved_from)] if moved and roots.moved_from else []
                self._names[root] = tuple(dict.fromkeys(names))
            return self._names[root]

    def sealed_one(self, shards: Sequence[Shard]) -> Shard:
        """Return the first sealed shard of one span under several roots, or the first if none is sealed."""
        with self._lock:
            if self._sealed is None:
                self._sealed = self._checkpoint.sealed_ids()
            return next((shard for shard in shards if shard.id in self._sealed), shards[0])

    def in_id(self, shard: Shard, name: str | None = None) -> str:
        """Return the root for the id of a shard; "" for none.

        Args:
            shard: with its id without a root.
            name: the root by which its files are known; None: see `known_as`.
        """
        first, root = self.first, name or self.known_as(shard.span.files[0].root)
        if first.certain:
            return "" if root in first.roots else root
        return "" if shard.id in self._placed_here() else root

    def settle(self, root: str) -> None:
        """Commit the basis of this run's ids before the first seal: the first roots, and the root that `root` was moved from.

        Of two concurrent runs, the first one's commit applies to both.
        """
        checkpoint, name = self._checkpoint, self.known_as(root)
        with self._lock:
            mine = self.first
            if not self._settled:
                self._first = commit_document(checkpoint.store, checkpoint.layout.first_roots, mine, damages=checkpoint.damages)
                self._settled, self._new = True, self._first == mine
        if self._roots().moved_from and name != self._noted(root):
            write_document(checkpoint.store, checkpoint.layout.place(root), KnownAs(root=root, known_as=name))

    def withdraw(self) -> None:
        """Delete the first roots that `settle` committed, if the corpus has no part or seal yet: a run that failed so early leaves nothing behind.

        Keeps them while another run of the corpus is in progress: it may have read them, and names its shards by them.
        """
        checkpoint = self._checkpoint
        if self._new and next(iter(checkpoint.store.list(checkpoint.layout.shards)), None) is None:
            now = dt.datetime.now(dt.UTC)
            runs = LiveRuns(checkpoint.store, checkpoint.layout.corpus).newest()
            if not any(run.state == "running" and not run.is_silent(now) for run in runs):
                checkpoint.store.delete(checkpoint.layout.first_roots)

    def place_of(self, shard: str) -> str | None:
        """Return the place of a sealed shard's first file by the ledgers, or None."""
        for target in self._ledgers():
            entry = self._checkpoint.read_load(target, shard)
            if entry and entry.place:
                return entry.place
        return None

    def _has_shards(self, root: str) -> bool:
        """Whether an earlier run read files below a root that were not moved there, as far as the checkpoint tells."""
        committed = self._checkpoint.read(self._checkpoint.layout.first_roots, FirstRoots)
        return bool(committed and root in committed.roots) or any(root in self._checkpoint.roots(target) for target in self._ledgers())

    def _noted(self, root: str) -> str:
        def is_of(record: KnownAs) -> None:
            if record.root != root:
                raise Permanent(f"root {record.root[:200]!r} under the name of another")

        record = self._checkpoint.read(self._checkpoint.layout.place(root), KnownAs, is_of)
        return record.known_as if record else root

    def _found(self) -> FirstRoots:
        """Return the first roots of a corpus without a committed record: a new one, or one of an older version."""
        checkpoint = self._checkpoint
        if next(iter(checkpoint.store.list(checkpoint.layout.shards)), None) is None:
            return FirstRoots(roots=(self.known_as(self._roots().now),), certain=True)
        known = sorted({self._noted(root) for target in self._ledgers() for root in checkpoint.roots(target)})
        return FirstRoots(roots=tuple(known), certain=len(known) == 1)

    def _ledgers(self) -> list[str]:
        """Return the ledgers of the corpus' collections, the plan's own first."""
        checkpoint, own = self._checkpoint, self._target()
        with self._lock:
            if self._listed is None:
                found = (checkpoint.read(stored.key, Standing) for stored in checkpoint.store.list(checkpoint.layout.all_ledgers))
                self._listed = sorted({standing.target for standing in found if standing})
        return [own, *(target for target in self._listed if target != own)]

    def _placed_here(self) -> DigestSet:
        """Return the planned shards, by ids without a root, that a ledger locates at their files' place."""
        with self._lock:
            if self._here is None:
                self._here = DigestSet(shard for target in self._ledgers() for shard in self._placed_by(target))
            return self._here

    def _placed_by(self, target: str) -> Iterator[str]:
        """Yield those of one ledger. An entry with an unknown place is assumed to belong to the collection's current root."""
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
