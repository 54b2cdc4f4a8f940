"""The work of `quarantine retry`: quarantined rows, and shards that only a run can process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.domain.errors import BadInput
from tasks.domain.shards.row_accounting import ShardCounts
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import seals_of
from tasks.run.seals.seal_totals import count_seals
from tasks.run.seals.unplanned_shards import unplanned


@dataclass(frozen=True, slots=True, kw_only=True)
class ToRetry:
    """The work of a retry: quarantined rows, and shards without a seal for the current files."""

    rows: int
    damaged: bool
    unsealed: dict[str, Shard]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows and not self.damaged and not self.unsealed

    def note_unsealed(self, run: Run, plan: Plan) -> None:
        """Record each unsealed shard as failed, with what to do; a retry does not process them."""
        for shard, reason in self._reasons(plan):
            run.journal.note_failure(shard, BadInput(reason))

    def _reasons(self, plan: Plan) -> Iterator[tuple[Shard, str]]:
        known = {each.entry.place for each in unplanned(plan)}
        for shard in self.unsealed.values():
            why = "has changed since it was encoded" if shard.place in known else "was not encoded yet, or has changed since"
            yield shard, f"the file {why}: `kitestring run` encodes it again, including its quarantined rows"

    def refuse_if_idle(self, plan: Plan) -> None:
        """Refuse a retry that has nothing to do but for unsealed shards.

        Raises:
            BadInput: no row is quarantined, and there are files that only a run can process.
        """
        if not self.rows and not self.damaged and self.unsealed:
            shard, reason = next(self._reasons(plan))
            more = f" ({len(self.unsealed):,} such shards in all)" if len(self.unsealed) > 1 else ""
            raise BadInput(f"no row to retry: {shard.name}: {reason}{more}")


def look_for_rows(plan: Plan) -> ToRetry:
    """Find the work of a retry; reads only the seals."""
    rows, sealed = 0, set[str]()
    for seal in seals_of(plan):
        rows += len(seal.quarantined)
        sealed.add(seal.shard)
    damaged = set(plan.inspected.damages.keys)  # the retry seals the shards of documents that were moved aside again
    unsealed = {shard.id: shard for shard in plan if shard.id not in sealed and plan.checkpoint.layout.seal(shard.id) not in damaged}
    return ToRetry(rows=rows, damaged=bool(damaged), unsealed=unsealed)


def nothing_to_retry(plan: Plan) -> dict[str, object]:
    """The result of `quarantine retry` if no row is quarantined, with the figures of a run."""
    totals, proof = count_seals(plan, encoded_now={}), plan.checkpoint.read_proof(plan.target)
    shards = ShardCounts(planned=plan.spool.shards, sealed=totals.sealed, loaded=totals.loaded)
    return {
        "rows": totals.rows.model_dump(),
        "shards": shards.model_dump(),
        "verified": bool(proof and proof.holds_for(totals.cover.digest, plan.target)),
        "report": plan.checkpoint.latest_report(),
        "notes": ["no row is quarantined: there is nothing to retry"],
    }
