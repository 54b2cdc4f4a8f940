"""Condemned keys: objects that a sweep is about to remove, announced in advance so that `gc` never removes a part of a loaded shard.

A run may adopt an old part, and seal it, at any moment between a sweep's read of the seals and its delete. No clock and no
lease closes that gap: either side may be suspended for a day within it. So neither side waits for the other. Each writes
first and reads afterwards:

    gc                                              a run
    g1  write a mark that names the keys            r1  commit the seal (or amendment)
    g2  read the seals; keep what they name         r2  before loading it: read the marks
    g3  delete the rest                             r3  then read every part of it, by its checksum
    g4  remove the mark                             r4  load, and only then write the ledger's entry

A seal that a mark or a missing part contradicts (r2, r3) is withdrawn: the run encodes the missing rows under new keys and
seals again, before any row was loaded. Invariant: **a sweep removes no part of a seal after r3, while that seal exists.**
Assume that g3 does. Then g2 did not see the seal, so g1 < g2 < r1 < r2 < r3 < g3 < g4: the mark existed at r2, a
contradiction. (r3 detects a part that was removed before it.)

Kills. Of a run between r1 and r4: the shard is in no ledger, so the next run loads it, with r2 and r3. Of a sweep between
g1 and g4: its mark stays and is honoured, so its parts are encoded again and not adopted. A later sweep completes it
under the same mark, removes the mark only when none of its keys exists, and removed keys are never written again under
the same key: if the earlier sweep was merely suspended, it finds nothing. If a seal names one of the keys by then, the mark
stays, since it is unknown whether the earlier sweep has seen that seal: loading it into another collection encodes that part
again. A delete with an unknown outcome keeps its mark as well.

The minimum age of a day only saves work; the protocol needs no clock. It needs a store with read-after-write consistency,
and no run of a version before this one during the sweep.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

from tasks.adapters.checkpoint.json_documents import read_document, write_document
from tasks.domain.errors import Permanent
from tasks.domain.ports import Store
from tasks.domain.shards.garbage import Condemned
from tasks.domain.shards.layout import Layout


def condemn(store: Store, layout: Layout, keys: Iterable[str]) -> str:
    """Announce the objects that a sweep may remove from now on. Returns the mark's key."""
    mark = layout.mark(uuid.uuid4().hex)
    write_document(store, mark, Condemned(keys=tuple(keys)))
    return mark


def condemned(store: Store, layout: Layout) -> frozenset[str]:
    """Return the keys that sweeps may be about to remove. Costs one listing without a sweep."""
    return frozenset(key for mark in store.list(layout.marks) for key in condemned_by(store, mark.key))


def condemned_by(store: Store, mark: str) -> Iterator[str]:
    """Yield the keys of a mark; none if it was removed meanwhile, or is not a Kitestring document: stores write atomically."""
    try:
        document = read_document(store, mark, Condemned)
    except Permanent:
        return
    yield from document.keys if document else ()
