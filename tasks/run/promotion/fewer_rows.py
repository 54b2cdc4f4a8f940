"""Whether a new encoder's collection holds fewer rows than the current one."""

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

PLACES_NAMED = 3  # places


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
        found = ahead(self.checkpoint.effective_seal, (entry.shard for entry in self.entries()))
        return (seal for seal in found if seal)


def why_smaller(plan: Plan, collection: Collection, live: str) -> str | None:
    """Why searches had better stay where they are, with both counts and what to do; None where nothing is lost by leading them here.

    A mirror may hold fewer rows, as far as it may shrink: what its source lost is meant to go.
    """
    found = _look(plan, live)
    if found is None:
        return None
    now = collection.count()
    if found.chunks or has_chunks(plan.spec.fields):  # the source's rows are compared: one document may be many rows
        now = count_seals(plan, encoded_now={}).rows.loaded
        found = replace(found, rows=sum(seal.embedded for seal in found.seals()))
    if plan.job.target.mode == "mirror":
        fewer = why_not_to_shrink(plan.job.target, leaving=max(0, found.rows - now), staying=now)
    else:
        fewer = _why_fewer(plan, found, live, now) if now < found.rows else None
    return fewer or _why_set_aside(plan, found, live)


def _look(plan: Plan, live: str) -> _Live | None:
    with closing(open_target(plan.job)) as at:
        serving = at.collection(live)
        made = serving.describe()
        if made is None:
            return None
        target = serving.identity() or target_fingerprint(plan.job.target, live)
        return _Live(
            rows=serving.count(),
            checkpoint=Checkpoint(plan.inspected.store, plan.job.corpus, made.fingerprint, plan.inspected.damages),
            target=target,
            chunks=has_chunks(made.fields),
        )


def _why_fewer(plan: Plan, live: _Live, name: str, now: int) -> str:
    standing, roots = plan.spool.places(), plan.roots
    gone = sorted({roots.place(entry) for entry in live.entries() if entry.files <= 1 and digest(roots.place(entry)) not in standing})
    some = ", ".join(gone[:PLACES_NAMED]) + (f" and {len(gone) - PLACES_NAMED} more" if len(gone) > PLACES_NAMED else "")
    cure = "add them to source.uri if they still exist" if gone else "find the missing rows"
    told = f" (rows of files that are no longer in the source: {some})" if gone else ""
    return f"it holds {now:,} rows, and '{name}' {live.rows:,}{told}: {cure}, or use `kitestring promote --anyway`"


def _why_set_aside(plan: Plan, live: _Live, name: str) -> str | None:
    """More rows, and a larger share of them: a larger source has more rows to quarantine."""
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
