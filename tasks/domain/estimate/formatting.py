"""Format an estimate for the terminal, the log and artifacts."""

from __future__ import annotations

from tasks.domain.estimate.estimate import ChunksExpected, Estimate, EstimateOutcome
from tasks.domain.estimate.intervals import between
from tasks.domain.estimate.rates import Rate
from tasks.domain.number_format import duration, money, number, size

WORDS = {"rows": number, "tokens": number, "seconds": duration, "checkpoint bytes": size, "cost": money}


def format_estimate(estimate: Estimate) -> list[tuple[str, str]]:
    """Return (figure, value) pairs for all known figures of a run's remaining work."""
    to_encode = f"at most {number(estimate.rows.high)}" if estimate.at_most else between(estimate.rows, number)
    shown = [("rows", f"{to_encode} to encode, {between(estimate.rows_to_load, number)} to load")]
    if estimate.chunks is not None:
        shown.append(("chunks", _chunks(estimate.chunks)))
    if estimate.tokens is not None:
        shown.append(("tokens", between(estimate.tokens, number)))
    if estimate.content_bytes is not None:
        shown.append(("content", between(estimate.content_bytes, size)))
    shown.append(("time", between(estimate.seconds, duration) if estimate.seconds else "not known"))
    if estimate.rate is not None:
        shown.append(("rate", _rate(estimate.rate)))
    if estimate.checkpoint_bytes is not None:
        shown.append(("checkpoint", between(estimate.checkpoint_bytes, size)))
    if estimate.target_bytes is not None:
        shown.append(("Milvus", f"{between(estimate.target_bytes, size)}, index included"))
    if estimate.cost is not None:
        shown.append(("cost", f"{between(estimate.cost, money)} at {money(estimate.price_per_hour or 0)} an hour"))
    return [*shown, ("sample", _sample(estimate)), *(("note", note) for note in estimate.notes)]


def estimate_headline(estimate: Estimate) -> str:
    """Format the estimate as one line for the log."""
    return "; ".join(
        f"{name}: {value}" for name, value in format_estimate(estimate) if name in {"rows", "time", "cost", "checkpoint", "Milvus"}
    )


def _chunks(chunks: ChunksExpected) -> str:
    bins = ", ".join(f"{count:,} up to {edge:,}" for edge, count in sorted(chunks.per_document.items()))
    overlap = f"; overlap costs {between(chunks.overlap_tokens, number)} tokens" if chunks.overlap_tokens.high else ""
    return f"{between(chunks.rows, number)} (sampled documents by chunks: {bins}){overlap}"


def _rate(rate: Rate) -> str:
    return f"{between(rate.per_second, number)} {rate.unit}/s: {rate.origin}"


def _sample(estimate: Estimate) -> str:
    sample = estimate.sample
    if not sample.rows:
        return "no row had to be sampled"
    by = f", tokens by {sample.tokenizer}" if sample.tokenizer else ""
    return f"{sample.rows:,} rows at {sample.places} places, {size(sample.bytes)}{by}"


def format_outcome(outcome: EstimateOutcome) -> tuple[str, str, str, str]:
    """Return (figure, expected, actual, deviation)."""
    words = WORDS[outcome.name]
    off = "" if outcome.off is None else _signed(outcome.off)
    deviation = off if outcome.within else f"{off}, outside the range".lstrip(", ")
    return outcome.name, between(outcome.estimate, words), words(outcome.actual), deviation


def _signed(share: float) -> str:
    """Format a deviation: +12%, -0.1%; +0% below 0.05%."""
    if abs(share) < 0.0005:
        return "+0%"
    return f"{share:+.1%}" if abs(share) < 0.005 else f"{share:+.0%}"
