"""A timeline of a cluster's hosts: when each was loading, at work, lost or left out, and why."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.adapters.report.axes import Tone, clock
from tasks.adapters.report.charts import Chart, TrackSpan, span_chart
from tasks.domain.report.hosts import HostState, HostWork
from tasks.domain.report.run_report import RunReport

MOST_HOSTS = 24  # in the chart; hosts with incidents first
WHY_CHARACTERS = 400
HOST_HEADS = ("host", "rows", "rows/s", "tokens/s", "at work", "groups taken", "returned", "shards doubled", "events")
TONES: dict[HostState, Tone] = {
    "loading": "calm",
    "at work": "one",
    "released": "two",
    "leaving": "warn",
    "lost": "bad",
    "left out": "bad",
}
HOST_LEGEND: tuple[tuple[Tone, str], ...] = (
    ("calm", "loading the encoder"),
    ("one", "at work"),
    ("two", "released: no work left"),
    ("warn", "preempted"),
    ("bad", "lost, or left out"),
)


def drawn_hosts(report: RunReport) -> list[HostWork]:
    """All hosts, or `MOST_HOSTS` with preference for those with incidents, in the order in which they joined."""
    eventful = sorted(report.hosts, key=lambda host: not (host.left_out or host.given_back or host.doubled))[:MOST_HOSTS]
    return [host for host in report.hosts if host in eventful]


def hosts_chart(report: RunReport, *, title: str) -> Chart:
    """The timeline, with a line for each host."""
    ends = [moment.seconds for host in report.hosts for moment in host.moments] + [sample.seconds for sample in report.progress]
    tracks = [(host.host, _summary(host), _spans(host, max(ends, default=0.0))) for host in drawn_hosts(report)]
    described = "; ".join(f"{host.host}: {_story(host)}" for host in drawn_hosts(report))
    return span_chart(tracks, key="hosts", title=title, description=described)


def host_rows(report: RunReport) -> list[Sequence[str]]:
    """The table of the same hosts, with the columns `HOST_HEADS`."""
    return [
        (
            host.host,
            *(f"{number:,.0f}" for number in (host.rows, host.rows_per_second, host.tokens_per_second)),
            f"{host.share_at_work:.0%}",
            *(f"{number:,}" for number in (host.taken, host.given_back, host.doubled)),
            _story(host)[:WHY_CHARACTERS],
        )
        for host in drawn_hosts(report)
    ]


def _spans(host: HostWork, end: float) -> list[TrackSpan]:
    stops = [*(moment.seconds for moment in host.moments[1:]), end]
    return [
        TrackSpan(
            first=moment.seconds,
            stop=max(stop, moment.seconds),
            tone=TONES[moment.state],
            label=f"{moment.state}{', ' if moment.why else ''}{moment.why}"[:WHY_CHARACTERS],
        )
        for moment, stop in zip(host.moments, stops, strict=False)
    ]


def _summary(host: HostWork) -> str:
    return f"left out: {host.left_out}" if host.left_out else f"{host.rows:,} rows, {host.share_at_work:.0%} at work"


def _story(host: HostWork) -> str:
    return ", ".join(f"{clock(round(moment.seconds))} {moment.state}{f' ({moment.why})' if moment.why else ''}" for moment in host.moments)
