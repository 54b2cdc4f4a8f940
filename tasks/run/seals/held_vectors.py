"""Vectors that a collection holds already: those of rows of earlier shards, which a new shard brings again with other fields alone.

A row's vector is there if the row carries a shard that is no longer planned, that shard was loaded from a seal of which the hashes of
vectors were kept, and the hash is that of the row's new vector. Nobody may change the row between the question and the update:

- shards of this run that have the same key: owners are assigned afterwards, and their rows put in whole (`tasks.stages.deduplicate`);
- another run: it leaves its mark in the ledger. Where there is one, rows are sent whole; where one comes, they are sent again.
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

MOST_HELD_KEYS = 2_000_000  # of earlier shards, in memory: about 80 MB
MOST_KEY_READS = 4  # of one shard: where every part has rows of every shard, they would be read for ever, and rows are sent whole


class HeldVectors:
    """What a collection holds of earlier shards. Many threads may ask one.

    Args:
        ledger: of the corpus.
        target: in it.
        planned: shards whose rows this run may be writing.
        collection: that holds them.
        keys: of sealed shards.
    """

    def __init__(self, ledger: Ledger, target: str, planned: Container[str], collection: Collection, keys: ShardKeys) -> None:
        self._ledger, self._target, self._planned, self._collection, self._keys = ledger, target, planned, collection, keys
        self._lock = threading.Lock()
        self._known: OrderedDict[str, SealedVectors | None] = OrderedDict()  # those used last are at its end
        self._looks = Counter[str]()
        self._begun = self._mark() if collection.updates_fields() else None

    def of(self, part: pa.Table) -> np.ndarray:
        """Which rows of a part have their vector there: bool of shape (rows,)."""
        there = np.zeros(part.num_rows, dtype=bool)
        if self._begun is None:
            return there
        ids, hashes = part["id"].combine_chunks(), vector_hashes(part)
        held = self._collection.shards_of(ids.to_pylist())
        holders = np.array([held.get(key, "") for key in ids.to_pylist()], dtype=object)
        for shard in sorted({*holders} - {""}):
            known = None if shard in self._planned else self._vectors(shard)
            if known is not None:
                at = np.flatnonzero(holders == shard)
                there[at] = _alike(ids.take(pa.array(at)), hashes[at], known)
        return there

    def undisturbed(self) -> bool:
        """Whether no other run has left a mark since the first question."""
        return self._begun is None or self._mark() == self._begun

    def _mark(self) -> str | None:
        """What the ledger says of shards that this run does not write; None where another run may be writing one."""
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
            elif self._looks[shard] < MOST_KEY_READS:
                self._looks[shard] += 1
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


def _alike(ids: pa.Array, hashes: np.ndarray, known: SealedVectors) -> np.ndarray:
    places = pc.index_in(ids, value_set=known.ids)
    found = places.is_valid().to_numpy(zero_copy_only=False)
    alike: np.ndarray = found & (known.hashes[places.fill_null(0).to_numpy()] == hashes) if len(known.hashes) else found
    return alike
