"""Advice for a failed run: the first cause, its place, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.domain.errors import BadInput, Damaged, KitestringError, OutcomeUnknown, Transient
from tasks.domain.report.run_report import RunReport

AGAIN = "Run it again: it resumes from the sealed shards."


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Advice for the operator. `shard` and `row` are empty if the failure concerns none."""

    cause: str
    shard: str = ""
    row: str = ""
    cure: str = AGAIN


def advise(report: RunReport) -> Advice:
    """Return the advice for a run that failed at its end, from its report."""
    if report.failures:
        first = report.failures[0]
        cure = f"Correct what the message names, in the file or in the job. {AGAIN} All other shards are stored."
        return Advice(cause=first.error, shard=first.name, row="" if first.row is None else str(first.row), cure=cure)
    if report.over_quarantine and report.set_aside:
        row = report.set_aside[0]
        cure = (
            "The good rows are stored. Correct the rows and run again, run `kitestring quarantine retry` once the cause is fixed, "
            "or allow more with failures.max_quarantined."
        )
        return Advice(cause=row.reason, shard=row.shard, row=str(row.row), cure=cure)
    if report.refusals:
        return Advice(cause=report.refusals[0], cure="Everything else is done and stored. Follow the message, or leave the state as it is.")
    faults = () if report.verified else report.reasons
    return Advice(cause="; ".join(faults[:1]) or "the run is not complete", cure=f"{AGAIN} Missing rows are loaded again.")


def advise_on(error: Exception) -> Advice:
    """Return the advice for a run that failed before it could report."""
    return Advice(cause=str(error) or type(error).__name__, cure=_cure(error))


def _cure(error: Exception) -> str:
    if isinstance(error, BadInput):
        return "Correct what the message names and run it again; nothing was changed."
    if isinstance(error, Damaged):
        return "Run it again: the shard is encoded again."
    if isinstance(error, Transient | OutcomeUnknown):
        return f"A service did not answer. When it does: {AGAIN[0].lower()}{AGAIN[1:]}"
    if isinstance(error, KitestringError):
        return AGAIN
    return f"This should not happen; please report it with the log. {AGAIN}"
