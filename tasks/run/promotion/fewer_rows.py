"""Check whether a new encoder's collection holds fewer rows than the current one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.concurrent_map import ahead
from tasks.domain.digest import digest
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.collection import target_fingerprint
from tasks.domain.target.deletion_limit import why_not_to_shrink
from tasks.run.plan import Plan
from tasks.run.preflight import open_target
from tasks.run.seals.seal_totals import count_seals

PLACES_NAMED = 3  # the most removed files that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """The current collection: its rows, and its ledger if it was filled from this corpus' checkpoint."""

    rows: int
    checkpoint: Checkpoint
    target: str
    chunks: bool  # its rows are chunks of documents

    def entries(self) -> Iterator[Loaded]:
        return self.checkpoint.loads(self.target)

    def seals(self) -> Iterator[Seal]:
        seals = ahead(self.checkpoint.effective_seal, (entry.shard for entry in self.entries()))
        return (seal for seal in seals if seal)


def why_smaller(plan: Plan, collection: Collection, live: str) -> str | None:
    """Why the alias should not move to the plan's collection, with both counts and what to do; None if no rows would be missing.

    A mirror may hold fewer rows, within its deletion limit: rows that its source lost are meant to be removed.
    """
    current = _describe_live(plan, live)
    if current is None:
        return None
    now = collection.count()
    if current.chunks or has_chunks(plan.spec.fields):  # compare rows of the source: one document may be many rows
        now = count_seals(plan, encoded_now={}).rows.loaded
        current = replace(current, rows=sum(seal.embedded for seal in current.seals()))
    if plan.job.target.mode == "mirror":
        fewer = why_not_to_shrink(plan.job.target, leaving=max(0, current.rows - now), staying=now)
    else:
        fewer = _why_fewer(plan, current, live, now) if now < current.rows else None
    return fewer or _why_set_aside(plan, current, live)


def _describe_live(plan: Plan, live: str) -> _Live | None:
    with closing(open_target(plan.job)) as at:
        collection = at.collection(live)
        spec = collection.describe()
        if spec is None:
            return None
        target = collection.identity() or target_fingerprint(plan.job.target, live)
        return _Live(
            rows=collection.count(),
            checkpoint=Checkpoint(plan.inspected.store, plan.job.corpus, spec.fingerprint, plan.inspected.damages),
            target=target,
            chunks=has_chunks(spec.fields),
        )


def _why_fewer(plan: Plan, live: _Live, name: str, now: int) -> str:
    standing, roots = plan.spool.places(), plan.roots
    gone = sorted({roots.place(entry) for entry in live.entries() if entry.files <= 1 and digest(roots.place(entry)) not in standing})
    some = ", ".join(gone[:PLACES_NAMED]) + (f" and {len(gone) - PLACES_NAMED} more" if len(gone) > PLACES_NAMED else "")
    cure = "add them to source.uri if they still exist" if gone else "find the missing rows"
    files = f" (rows of files that are no longer in the source: {some})" if gone else ""
    return f"it holds {now:,} rows, and '{name}' {live.rows:,}{files}: {cure}, or use `kitestring promote --anyway`"


def _why_set_aside(plan: Plan, live: _Live, name: str) -> str | None:
    """Why too many rows are quarantined: more, and a larger share, than in the live collection, since a larger source may have more."""
    ours = count_seals(plan, encoded_now={}).rows
    rows = aside = 0
    for seal in live.seals():
        rows, aside = rows + seal.source_rows, aside + len(seal.quarantined)
    if not rows or ours.quarantined <= aside or ours.quarantined * rows <= aside * ours.source:
        return None
    return (
        f"{ours.quarantined:,} of its {ours.source:,} rows were quarantined, of '{name}' {aside:,} of {rows:,}: "
        "see why with `kitestring quarantine list`, or use `kitestring promote --anyway`"
    )
