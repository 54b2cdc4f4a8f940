"""Vectors that a collection already holds: rows of earlier shards that a new shard contains again with only other fields changed.

The collection holds a row's vector if the row belongs to a shard that is no longer planned, that shard was loaded from a seal with stored
hashes of vectors, and the hash equals that of the row's new vector. The row must not change between this check and the update:

- shards of this run with the same key: owners are assigned afterwards, and their rows are sent whole (`tasks.stages.deduplicate`);
- another run: it leaves an entry in the ledger. If there is one, rows are sent whole; if one appears later, they are sent again.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Container

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.checkpoint.shard_keys import SealedVectors, ShardKeys, vector_hashes
from tasks.domain.digest import digest
from tasks.domain.ports import Collection

MOST_HELD_KEYS = 2_000_000  # keys of earlier shards in memory: about 80 MB
MOST_KEY_READS = 4  # reads of one shard's keys; then its rows are sent whole, or keys would be evicted and read again without end


class HeldVectors:
    """The vectors of earlier shards that a collection holds. Thread-safe.

    Args:
        ledger: of the corpus.
        target: name of the collection's ledger.
        planned: shards whose rows this run may be writing.
        collection: the collection.
        keys: reads the keys and vector hashes of sealed shards.
    """

    def __init__(self, ledger: Ledger, target: str, planned: Container[str], collection: Collection, keys: ShardKeys) -> None:
        self._ledger, self._target, self._planned, self._collection, self._keys = ledger, target, planned, collection, keys
        self._lock = threading.Lock()
        self._known: OrderedDict[str, SealedVectors | None] = OrderedDict()  # the most recently used last
        self._reads = Counter[str]()
        self._first_mark = self._mark() if collection.updates_fields() else None

    def of(self, part: pa.Table) -> np.ndarray:
        """Whether the collection holds the vector of each row of a part: bool of shape (rows,)."""
        held = np.zeros(part.num_rows, dtype=bool)
        if self._first_mark is None:
            return held
        ids, hashes = part["id"].combine_chunks(), vector_hashes(part)
        shard_of = self._collection.shards_of(ids.to_pylist())
        holders = np.array([shard_of.get(key, "") for key in ids.to_pylist()], dtype=object)
        for shard in sorted({*holders} - {""}):
            known = None if shard in self._planned else self._vectors(shard)
            if known is not None:
                at = np.flatnonzero(holders == shard)
                held[at] = _equal(ids.take(pa.array(at)), hashes[at], known)
        return held

    def undisturbed(self) -> bool:
        """Whether no other run has changed the ledger since this object was created."""
        return self._first_mark is None or self._mark() == self._first_mark

    def _mark(self) -> str | None:
        """Digest of the ledger's entries of shards that this run does not write; None if another run may be writing one."""
        mixed = 0
        for entry in self._ledger.loads(self._target, but=self._planned):
            if entry.state == "loading":
                return None
            mixed ^= int(digest(entry.model_dump(mode="json")), 16)
        return f"{mixed:032x}"

    def _vectors(self, shard: str) -> SealedVectors | None:
        with self._lock:
            if shard in self._known:
                self._known.move_to_end(shard)
            elif self._reads[shard] < MOST_KEY_READS:
                self._reads[shard] += 1
                self._known[shard] = self._read(shard)
                self._make_room()
            return self._known.get(shard)

    def _read(self, shard: str) -> SealedVectors | None:
        entry = self._ledger.read_load(self._target, shard)
        return self._keys.vectors(shard, entry.seal) if entry and entry.state == "outdated" else None

    def _make_room(self) -> None:
        left = sum(len(known.hashes) for known in self._known.values() if known)
        for shard in list(self._known)[:-1]:
            if left <= MOST_HELD_KEYS:
                return
            known = self._known.pop(shard)
            left -= len(known.hashes) if known else 0


def _equal(ids: pa.Array, hashes: np.ndarray, known: SealedVectors) -> np.ndarray:
    places = pc.index_in(ids, value_set=known.ids)
    present = places.is_valid().to_numpy(zero_copy_only=False)
    equal: np.ndarray = present & (known.hashes[places.fill_null(0).to_numpy()] == hashes) if len(known.hashes) else present
    return equal
