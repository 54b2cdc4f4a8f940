"""Rows per second over time, in total and by host or rank, from a run's progress samples."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from tasks.adapters.report.axes import GROUPS
from tasks.domain.report.run_report import Progress, RunReport

_WINDOWS = 48  # points of a curve: enough to show a stall, few enough to read
CumulativeCounts = Sequence[tuple[float, float]]  # (seconds, count since the start)


def rates_by_host(report: RunReport) -> dict[str, list[float]]:
    """Rows per second of each host of a cluster in the windows of `rates`; empty if there was at most one host."""
    speeds = _speeds([(sample.seconds, sample.by_host) for sample in report.progress])
    names = [host.host for host in report.hosts[: len(speeds)]]
    if len(report.hosts) > len(speeds) > 0:
        names[-1] = "other hosts"
    return dict(zip(names, speeds, strict=False)) if len(names) > 1 else {}


def _speeds(samples: Sequence[tuple[float, tuple[int, ...]]]) -> list[list[float]]:
    """The rates, in the windows of `rates`, of the counts at each position of the tuples."""
    totals = [
        [(seconds, counts[place] if place < len(counts) else 0) for seconds, counts in samples]
        for place in range(max(len(counts) for _, counts in samples))
    ]
    return [[rate for _, rate in rates(total)] for total in totals]


def rates_by_rank(progress: Sequence[Progress]) -> dict[str, list[float]]:
    """Rows per second of each rank in the windows of `rates`; ranks beyond the number of colours are summed; empty for a single rank."""
    speeds = _speeds([(sample.seconds, sample.by_rank) for sample in progress])
    count = len(speeds)
    own = len(GROUPS) if count <= len(GROUPS) else len(GROUPS) - 1
    named = {f"rank {rank}": speed for rank, speed in enumerate(speeds[:own])}
    if speeds[own:]:
        named["other ranks"] = [sum(window) for window in zip(*speeds[own:], strict=True)]
    return named if count > 1 else {}


def rates(totals: CumulativeCounts) -> list[tuple[float, float]]:
    """(seconds, count per second in the window that ends there): equal windows, totals interpolated linearly between samples.

    Empty if there are fewer than two moments to compare.
    """
    seconds = [at for at, _ in totals]
    if len(totals) < 2 or seconds[-1] <= seconds[0]:
        return []
    windows = min(_WINDOWS, max(len(totals) - 1, 2))
    width = (seconds[-1] - seconds[0]) / windows
    edges = [seconds[0] + width * n for n in range(windows + 1)]
    counts = [_total_at(totals, seconds, edge) for edge in edges]
    steps = [(edge, max(after - before, 0) / width) for edge, before, after in zip(edges[1:], counts, counts[1:], strict=False)]
    return [(edges[0], steps[0][1]), *steps]


def _total_at(totals: CumulativeCounts, seconds: Sequence[float], at: float) -> float:
    place = min(max(bisect_left(seconds, at), 1), len(totals) - 1)
    (low, before), (high, after) = totals[place - 1], totals[place]
    share = (at - low) / (high - low) if high > low else 1.0
    return before + (after - before) * min(max(share, 0.0), 1.0)
