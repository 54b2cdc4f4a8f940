"""Condemned: what a sweep is about to remove, said beforehand, so that a shard that is loaded never loses a part to `gc`.

A run may adopt an old part, and seal it, at any moment between a sweep's look at the seals and its delete. No clock and no
lease closes that gap: either side may stand still for a day within it. So neither side waits for the other. Each writes
first and looks afterwards:

    gc                                              a run
    g1  write a mark that names the keys            r1  commit the seal (or amendment)
    g2  read the seals; keep what they name         r2  before loading it: read the marks
    g3  delete the rest                             r3  then read every part of it, by its checksum
    g4  remove the mark                             r4  load, and only then write the ledger's entry

A seal that a mark or a missing part contradicts (r2, r3) is withdrawn: the run encodes what is missing under new keys and
seals again, before any row was loaded. What holds: **a sweep removes no part of a seal after r3, while that seal stands.**
Assume that g3 does. Then g2 did not see the seal, so g1 < g2 < r1 < r2 < r3 < g3 < g4: the mark was there at r2, which
contradicts it. (A part that went before r3 is found by r3.)

Kills. Of a run between r1 and r4: the shard is in no ledger, so the next run loads it, by r2 and r3. Of a sweep between
g1 and g4: its mark stays and is honoured, so that its parts are encoded again and not adopted. A later sweep carries it
out under the same mark, and removes that only when none of its keys is left, and removed keys are not written again under
its key: the sweep before, if it merely stood still, finds nothing. Where a seal names one of the keys by now, the mark stays,
since it is unknown whether the earlier sweep has seen that seal: loading it into another collection encodes that part
again. A delete whose answer is unknown leaves its mark as well.

The day that things have to be old is there to save work; none of this needs a clock. It needs a store that shows at once
what was written, and no run of a version before this one beside the sweep.
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
    """Say which objects a sweep may remove from now on; the mark's key."""
    mark = layout.mark(uuid.uuid4().hex)
    write_document(store, mark, Condemned(keys=tuple(keys)))
    return mark


def condemned(store: Store, layout: Layout) -> frozenset[str]:
    """What sweeps may be about to remove. One listing where there is no sweep."""
    return frozenset(key for found in store.list(layout.marks) for key in condemned_by(store, found.key))


def condemned_by(store: Store, mark: str) -> Iterator[str]:
    """The keys that a mark names; none where it is removed meanwhile, or is no document of ours: a store writes it whole or not at all."""
    try:
        document = read_document(store, mark, Condemned)
    except Permanent:
        return
    yield from document.keys if document else ()
