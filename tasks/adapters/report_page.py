"""A run's report for people: one HTML page that needs nothing but itself, and Markdown for an artifact."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jinja2

from tasks.adapters.charts import Bar, Curve, Tone, bar_chart, clock, column_chart, curve_chart, shorten
from tasks.domain.report import Progress, RunReport, headline

_WINDOWS = 48  # points in a curve: enough to see a stall, few enough to read
_BARS = 10
_COLUMNS = 64
Cell = str
T = TypeVar("T")

_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart with the same figures as a table; or, where there is nothing to draw, words."""

    title: str
    note: str = ""
    svg: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A figure that one quotes."""

    name: str
    shown: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A small table of names and values."""

    title: str
    rows: Sequence[tuple[str, str]]


def render_report(report: RunReport) -> str:
    """The page: no scripts and no network; whatever came from the corpus is escaped."""
    panels = [_fates(report), _speed(report), _stages(report), _lengths(report), _slowest(report), _quarantine(report)]
    page = _pages.get_template("report.html").render(
        report=report,
        headline=headline(report),
        verdict=_verdict(report),
        begun=f"{report.started:%-d %B %Y, %H:%M} UTC",
        took=duration(report.wall_seconds),
        keys=_keys(report),
        drawn=[panel for panel in panels if panel.svg],
        told=[panel for panel in panels if not panel.svg],
        tables=[table for table in _tables(report) if table.rows],
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
    )
    return _sound(page)


def _sound(text: str) -> str:
    """Text that UTF-8 can hold and browsers accept: a corpus may have lone surrogates and null characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def markdown_report(report: RunReport) -> str:
    """The figures as Markdown for a Prefect artifact, without any text from the corpus but the corpus' name."""
    rows = [*((key.name, key.shown) for key in _keys(report)), *((name, f"{count:,}") for name, count in report.rows.model_dump().items())]
    lines = [f"# {headline(report)}", "", "| figure | value |", "|---|---:|", *(f"| {name} | {shown} |" for name, shown in rows)]
    if report.quarantine:
        lines += ["", "| set aside because | rows |", "|---|---:|"]
        lines += [f"| {escape(reason)} | {count:,} |" for reason, count in _largest(report.quarantine)]
    if report.failures:
        lines += ["", "| failed shard | error |", "|---|---|"]
        lines += [f"| {escape(shard.name)} | {escape(shard.error)} |" for shard in report.failures[:20]]
    return _sound("\n".join([*lines, "", *([f"The whole report: `{report.page}`", ""] if report.page else [])]))


def escape(text: str, longest: int = 160) -> str:
    """Text for Markdown, a table's cell too: marks, pipes and HTML are data."""
    plain = shorten(text, longest)
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+!|<>&~" else letter for letter in plain)


def duration(seconds: float) -> str:
    """For people: 0.8 s, 42 s, 3 min 12 s, 2 h 5 min."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _verdict(report: RunReport) -> dict[str, str]:
    if report.shards.failed:
        return {"tone": "bad", "text": "Not complete: shards failed"}
    if report.verified:
        return {"tone": "good", "text": "Proved: the collection holds exactly these rows"}
    return {"tone": "warn", "text": "Not proved"}


def _keys(report: RunReport) -> list[Key]:
    rows, shards = report.rows, report.shards
    keys = [Key(name="rows searchable", shown=f"{rows.loaded:,}", note=f"of {rows.source:,}")]
    if report.rows_per_second:
        keys.append(Key(name="rows a second", shown=f"{report.rows_per_second:,.0f}", note="while encoding"))
    if report.tokens_per_second:
        keys.append(Key(name="tokens a second", shown=f"{report.tokens_per_second:,.0f}", note=f"{report.tokens:,} in all"))
    keys.append(Key(name="time", shown=duration(report.wall_seconds), note="from start to proof"))
    keys.append(Key(name="shards loaded", shown=f"{shards.loaded:,}", note=f"of {shards.planned:,}, {shards.failed:,} failed"))
    keys.append(
        Key(
            name="set aside",
            shown=f"{rows.quarantined:,}",
            note=f"{rows.quarantined / rows.source:.2%} of rows" if rows.quarantined else "",
        )
    )
    return keys


def _bars(key: str, title: str, bars: Sequence[Bar], *, heads: Sequence[str], note: str = "") -> Panel:
    described = "; ".join(f"{bar.label}: {bar.shown}" for bar in bars)
    svg = bar_chart(bars, key=key, title=title, description=described)
    return Panel(title=title, note=note, svg=svg, heads=heads, rows=[(bar.label, bar.shown) for bar in bars])


def _fates(report: RunReport) -> Panel:
    rows, title = report.rows, "What became of the rows"
    if not rows.source:
        return Panel(title=title, words="The source holds no rows.")
    tones: dict[str, tuple[str, Tone]] = {
        "embedded": ("embedded by this run", "one"),
        "reused": ("reused from earlier seals", "two"),
        "duplicates": ("duplicates left out", "calm"),
        "quarantined": ("set aside", "warn"),
    }
    bars = [
        Bar(label=label, value=getattr(rows, name), shown=f"{getattr(rows, name):,}", tone=tone) for name, (label, tone) in tones.items()
    ]
    accounted = sum(int(bar.value) for bar in bars)
    missing = rows.source - accounted
    note = f"Every one of {rows.source:,} source rows is accounted for." if not missing else f"{missing:,} source rows are not done yet."
    if missing > 0:
        bars.append(Bar(label="not done", value=missing, shown=f"{missing:,}", tone="bad"))
    return _bars("fates", title, bars, heads=("rows", "count"), note=note)


def _speed(report: RunReport) -> Panel:
    title = "Speed over time"
    if not report.rows.embedded:
        return Panel(title=title, words="Nothing had to be encoded: every vector was there.")
    rows, tokens = rates(report.progress, "rows"), rates(report.progress, "tokens")
    if len(rows) < 2:
        return Panel(title=title, words=f"The run was over before its speed could be drawn: {report.rows.embedded:,} rows were encoded.")
    curves = [Curve(label="rows a second", points=rows)]
    if any(rate for _, rate in tokens):
        curves.append(Curve(label="tokens a second", points=tokens, tone="two"))
    peaks = ", ".join(f"at most {max(rate for _, rate in curve.points):,.0f} {curve.label}" for curve in curves)
    svg = curve_chart(curves, key="speed", title=title, description=f"{peaks}, over {duration(rows[-1][0])}.")
    figures = [(clock(round(at)), *(f"{curve.points[place][1]:,.0f}" for curve in curves)) for place, (at, _) in enumerate(rows)]
    return Panel(title=title, note=peaks.capitalize() + ".", svg=svg, heads=("at", *(curve.label for curve in curves)), rows=figures)


def rates(progress: Sequence[Progress], what: str) -> list[tuple[float, float]]:
    """(seconds, `what` per second in the window that ends there): equal windows, totals drawn straight between samples.

    Empty where there are fewer than two moments to compare.
    """
    seconds = [sample.seconds for sample in progress]
    if len(progress) < 2 or seconds[-1] <= seconds[0]:
        return []
    width = (seconds[-1] - seconds[0]) / min(_WINDOWS, max(len(progress) - 1, 2))
    edges = [seconds[0] + width * n for n in range(min(_WINDOWS, max(len(progress) - 1, 2)) + 1)]
    totals = [_total_at(progress, seconds, what, edge) for edge in edges]
    steps = [(edge, max(after - before, 0) / width) for edge, before, after in zip(edges[1:], totals, totals[1:], strict=False)]
    return [(edges[0], steps[0][1]), *steps]


def _total_at(progress: Sequence[Progress], seconds: Sequence[float], what: str, at: float) -> float:
    place = min(max(bisect_left(seconds, at), 1), len(progress) - 1)
    low, high = progress[place - 1], progress[place]
    share = (at - low.seconds) / (high.seconds - low.seconds) if high.seconds > low.seconds else 1.0
    before, after = float(getattr(low, what)), float(getattr(high, what))
    return before + (after - before) * min(max(share, 0.0), 1.0)


def _stages(report: RunReport) -> Panel:
    title = "Time by stage"
    if not any(report.seconds.values()):
        return Panel(title=title, words="No stage was timed.")
    bars = [Bar(label=name, value=taken, shown=duration(taken), tone="one") for name, taken in report.seconds.items()]
    return _bars("stages", title, bars, heads=("stage", "time"), note="Stages overlap: shards are loaded while others are encoded.")


def _lengths(report: RunReport) -> Panel:
    title = "Length of the texts"
    if not report.lengths:
        return Panel(title=title, words="No text was measured: nothing was encoded yet, or the rows are pictures.")
    columns = _joined(sorted(report.lengths.items()))
    shown = [(f"{edge:,}", count) for edge, count in columns]
    cut = f"{report.truncated:,} rows were cut at the model's longest input and lost {report.tokens_cut:,} tokens."
    note = cut if report.truncated else "No row was longer than the model reads."
    if report.texts_cut:
        note += f" Of {report.texts_cut:,} texts the collection holds the first 65,535 bytes only; their vectors are of the whole."
    most = max(columns, key=lambda column: column[1])
    described = (
        f"Rows by length, in bins up to {columns[-1][0]:,} tokens; the fullest bin ends at {most[0]:,} tokens with {most[1]:,} rows."
    )
    svg = column_chart(shown, key="lengths", title=title, description=described, axis="tokens, up to")
    return Panel(title=title, note=note, svg=svg, heads=("tokens, up to", "rows"), rows=[(edge, f"{count:,}") for edge, count in shown])


def _joined(bins: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring bins joined until they fit the chart; each keeps the upper edge of its last."""
    size = -(-len(bins) // _COLUMNS)
    groups = [bins[max(end - size, 0) : end] for end in range(len(bins), 0, -size)]
    return [(group[-1][0], sum(count for _, count in group)) for group in reversed(groups)]


def _slowest(report: RunReport) -> Panel:
    title = "Slowest shards"
    if not report.slowest:
        return Panel(title=title, words="No shard was encoded in this run.")
    bars = [
        Bar(label=shard.name, value=shard.seconds, shown=f"{duration(shard.seconds)}, {shard.rows_per_second:,.0f} rows/s", tone="two")
        for shard in report.slowest[:_BARS]
    ]
    return _bars("slowest", title, bars, heads=("shard", "time"))


def _quarantine(report: RunReport) -> Panel:
    title = "Why rows were set aside"
    if not report.quarantine:
        return Panel(title=title, words="No row was set aside.")
    bars = [Bar(label=reason, value=count, shown=f"{count:,}", tone="warn") for reason, count in _largest(report.quarantine)]
    return _bars("quarantine", title, bars, heads=("reason", "rows"))


def _largest(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The largest first, and what does not fit as one last entry."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[_BARS:])
    return [*ranked[:_BARS], *([("other reasons", rest)] if rest else [])]


def _tables(report: RunReport) -> list[Facts]:
    encoder, facts, target = report.encoder, report.facts, report.target
    told = [("kind", encoder.kind), ("model", encoder.model), ("revision", encoder.revision or "none"), ("precision", encoder.precision)]
    told += [("fingerprint", encoder.fingerprint), ("weights", encoder.weights)]
    if facts:
        told += [
            ("dimensions", f"{facts.dim:,}"),
            ("longest input", f"{facts.max_seq_length:,} tokens" if facts.max_seq_length else "not limited"),
        ]
        told += [("device", facts.device), *([("why this precision", facts.note)] if facts.note else [])]
    if report.backend:
        told.append(("run by", report.backend))
    if facts and facts.lowest_cosine is not None:
        told.append(("cosine to float32", f"{facts.lowest_cosine:.6f} at the least"))
    served = [("target", target.uri), ("alias", target.alias), ("collection", target.collection)]
    return [
        Facts(title="Encoder", rows=told),
        Facts(title="Collection", rows=[*served, ("parts adopted", f"{report.adopted:,}")]),
        Facts(title="Start-up", rows=[(step, duration(taken)) for step, taken in report.startup.items()]),
        Facts(title="Peak memory", rows=[(process, f"{size / 2**20:,.0f} MiB") for process, size in report.peak_memory.items()]),
        Facts(title="Versions", rows=list(report.versions.items())),
    ]
