"""The figures of a report as charts, each with a table of the same figures; or a sentence if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.adapters.report.axes import GROUPS, Tone, clock
from tasks.adapters.report.charts import Bar, Chart, Curve, bar_chart, column_chart, curve_chart, point_chart
from tasks.adapters.report.host_timeline import HOST_HEADS, HOST_LEGEND, drawn_hosts, host_rows, hosts_chart
from tasks.adapters.report.throughput_curves import rates, rates_by_host, rates_by_rank
from tasks.domain.number_format import duration
from tasks.domain.report.figures import Projection, RankWork
from tasks.domain.report.run_report import STAGES, RunReport
from tasks.domain.shards.seal import ChunkCounts, format_chunks

_BARS = 10
_COLUMNS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart with a table of the same figures; or `words` if there is nothing to draw."""

    title: str
    note: str = ""
    chart: Chart | None = None
    legend: Sequence[tuple[Tone, str]] = ()
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    words: str = ""


def panels(report: RunReport) -> list[Panel]:
    """All panels of the report, in order."""
    makers = (
        _fates,
        _speed,
        *([_hosts] if report.hosts else []),
        _stages,
        _work,
        _lengths,
        *([_chunks] if report.chunks else []),
        _padding,
        _slowest,
        _memory,
        _quarantine,
    )
    return [make(report) for make in makers]


def _bars(key: str, title: str, bars: Sequence[Bar], *, heads: Sequence[str], note: str = "") -> Panel:
    described = "; ".join(f"{bar.label}: {bar.shown}" for bar in bars)
    chart = bar_chart(bars, key=key, title=title, description=described)
    return Panel(title=title, note=note, chart=chart, heads=heads, rows=[(bar.label, bar.shown) for bar in bars])


def _fates(report: RunReport) -> Panel:
    rows, title = report.rows, "Rows by outcome"
    if not rows.source:
        return Panel(title=title, words="The source has no rows.")
    tones: dict[str, tuple[str, Tone]] = {
        "embedded": ("embedded by this run", "one"),
        "reused": ("reused from earlier seals", "two"),
        **({"cached": ("taken from the cache", "two")} if rows.cached else {}),
        "duplicates": ("duplicates left out", "calm"),
        "quarantined": ("quarantined", "warn"),
    }
    bars = [
        Bar(label=label, value=getattr(rows, name), shown=f"{getattr(rows, name):,}", tone=tone) for name, (label, tone) in tones.items()
    ]
    accounted = sum(int(bar.value) for bar in bars)
    missing = rows.source - accounted
    note = f"All {rows.source:,} source rows are accounted for." if not missing else f"{missing:,} source rows are not done yet."
    if missing > 0:
        bars.append(Bar(label="not done", value=missing, shown=f"{missing:,}", tone="bad"))
    return _bars("fates", title, bars, heads=("rows", "count"), note=note)


def _speed(report: RunReport) -> Panel:
    title = "Speed over time"
    if not report.rows.embedded:
        return Panel(title=title, words="Nothing had to be encoded: all vectors existed already.")
    rows = rates([(sample.seconds, sample.rows) for sample in report.progress])
    tokens = rates([(sample.seconds, sample.tokens) for sample in report.progress])
    fastest = max((rate for _, rate in rows), default=0.0)
    if len(rows) < 2 or fastest < (report.rows_per_second or 0.0):  # too few samples: a peak below the average would be wrong
        return Panel(title=title, words=f"The run was too short to draw its speed: {report.rows.embedded:,} rows were encoded.")
    ranks = rates_by_host(report) or rates_by_rank(report.progress)
    curves = [Curve(label="rows per second", points=rows, bands=list(ranks.values()))]
    if any(rate for _, rate in tokens):
        curves.append(Curve(label="tokens per second", points=tokens, tone="two"))
    peaks = ", ".join(f"at most {max(rate for _, rate in curve.points):,.0f} {curve.label}" for curve in curves)
    chart = curve_chart(curves, key="speed", title=title, description=f"{peaks}, over {duration(rows[-1][0])}.")
    columns = [*([rate for _, rate in curve.points] for curve in curves), *ranks.values()]
    figures = [(clock(round(at)), *(f"{column[place]:,.0f}" for column in columns)) for place, (at, _) in enumerate(rows)]
    heads = ("time", *(curve.label for curve in curves), *ranks)
    legend = list(zip(GROUPS, ranks, strict=False))
    return Panel(title=title, note=peaks.capitalize() + ".", chart=chart, legend=legend, heads=heads, rows=figures)


def _hosts(report: RunReport) -> Panel:
    title, shown = "Hosts", drawn_hosts(report)
    lost = sum(moment.state == "lost" for host in report.hosts for moment in host.moments)
    out = sum(bool(host.left_out) for host in report.hosts)
    more = f" {len(report.hosts) - len(shown):,} more are in report.json." if len(report.hosts) > len(shown) else ""
    note = f"{len(report.hosts):,} hosts in the cluster; {lost:,} times a host was lost, and {out:,} hosts were left out.{more}"
    return Panel(
        title=title, note=note, chart=hosts_chart(report, title=title), legend=HOST_LEGEND, heads=HOST_HEADS, rows=host_rows(report)
    )


def _stages(report: RunReport) -> Panel:
    title = "Time by stage"
    if not any(report.seconds.values()):
        return Panel(title=title, words="No stage was timed.")
    order = {name: place for place, name in enumerate(STAGES)}
    stages = sorted(report.seconds.items(), key=lambda stage: order.get(stage[0], len(order)))
    bars = [Bar(label=name, value=taken, shown=duration(taken), tone="one") for name, taken in stages]
    return _bars("stages", title, bars, heads=("stage", "time"), note="Stages overlap: shards are loaded while others are encoded.")


def _work(report: RunReport) -> Panel:
    title = "Time by work of the ranks"
    if not report.ranks:
        return Panel(title=title, words="No rank had any work.")
    done = {"encoding": "encode_seconds", "tokenising": "tokenize_seconds", "writing parts": "write_seconds"}
    spent = {name: sum(getattr(rank, seconds) for rank in report.ranks) for name, seconds in done.items()}
    bars = [Bar(label=name, value=taken, shown=duration(taken), tone="two") for name, taken in spent.items() if taken]
    ranks = ", ".join(f"{_rank_name(rank)}: {rank.rows:,} rows" for rank in report.ranks[:_BARS])
    note = f"Seconds of all ranks together; tokenising and writing overlap with encoding. {ranks[:1].upper()}{ranks[1:]}."
    return _bars("work", title, bars, heads=("work", "time"), note=note)


def _lengths(report: RunReport) -> Panel:
    title = "Text lengths"
    if not report.lengths:
        return Panel(title=title, words="No text was measured: nothing was encoded yet, or the rows are images.")
    columns = _joined(sorted(report.lengths.items()))
    shown = [(f"{edge:,}", count) for edge, count in columns]
    rows = "1 row was" if report.truncated == 1 else f"{report.truncated:,} rows were"
    cut = f"{rows} truncated at the model's longest input and lost {report.tokens_cut:,} {'token' if report.tokens_cut == 1 else 'tokens'}."
    note = cut if report.truncated else "No row was longer than the model's longest input."
    measured, made = sum(report.lengths.values()), report.rows_made
    if measured < made:
        note += f" Based on {measured:,} of {made:,} rows: the lengths of the others, from a cache or earlier seals, were not stored."
    if report.texts_cut:
        note += f" Of {report.texts_cut:,} texts the collection has only the first 65,535 bytes; their vectors are of the whole text."
    most = max(columns, key=lambda column: column[1])
    described = (
        f"Rows by length, in bins up to {columns[-1][0]:,} tokens; the fullest bin ends at {most[0]:,} tokens with {most[1]:,} rows."
    )
    chart = column_chart(shown, key="lengths", title=title, description=described, axis="tokens, up to")
    return Panel(title=title, note=note, chart=chart, heads=("tokens, up to", "rows"), rows=[(edge, f"{count:,}") for edge, count in shown])


def _chunks(report: RunReport) -> Panel:
    title, chunks = "Chunks of a document", report.chunks or ChunkCounts(rows=0)
    if not chunks.per_document:
        return Panel(title=title, words="No document has been split yet.")
    shown = [(f"{edge:,}", count) for edge, count in _joined(sorted(chunks.per_document.items()))]
    note = f"{format_chunks(chunks)}."
    chart = column_chart(shown, key="chunks", title=title, description=f"Documents by chunks: {note}", axis="chunks, up to")
    return Panel(
        title=title, note=note, chart=chart, heads=("chunks, up to", "documents"), rows=[(edge, f"{count:,}") for edge, count in shown]
    )


def _joined(bins: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge neighbouring bins until they fit the chart; a merged bin has the upper edge of its last one."""
    size = -(-len(bins) // _COLUMNS)
    groups = [bins[max(end - size, 0) : end] for end in range(len(bins), 0, -size)]
    return [(group[-1][0], sum(count for _, count in group)) for group in reversed(groups)]


def _padding(report: RunReport) -> Panel:
    title, share = "Padding", report.padding
    if share is None:
        return Panel(title=title, words="No padding: no text was encoded.")
    tokens = sum(rank.tokens for rank in report.ranks)
    padding = sum(rank.padded for rank in report.ranks) - tokens
    bars = [
        Bar(label="tokens of texts", value=tokens, shown=f"{tokens:,}", tone="one"),
        Bar(label="padding", value=padding, shown=f"{padding:,}", tone="warn"),
    ]
    note = f"{share:.1%} of the tokens that the model computed on were padding." if padding else "The model computed on no padding."
    return _bars("padding", title, bars, heads=("tokens", "count"), note=note)


def _slowest(report: RunReport) -> Panel:
    title = "Slowest shards"
    if not report.slowest:
        return Panel(title=title, words="No shard was encoded in this run.")
    bars = [
        Bar(label=shard.name, value=shard.seconds, shown=f"{duration(shard.seconds)}, {shard.rows_per_second:,.0f} rows/s", tone="two")
        for shard in report.slowest[:_BARS]
    ]
    return _bars("slowest", title, bars, heads=("shard", "time"))


def _memory(report: RunReport) -> Panel:
    title = "Peak memory"
    sizes = sorted(report.peak_memory.items(), key=lambda entry: -entry[1])
    if not any(size for _, size in sizes):
        return Panel(title=title, words="Not measured.")
    bars = [Bar(label=process, value=size, shown=f"{size / 2**20:,.0f} MiB", tone="calm") for process, size in sizes[:_BARS]]
    more = f" {len(sizes) - _BARS} other processes used less." if len(sizes) > _BARS else ""
    return _bars("memory", title, bars, heads=("process", "memory"), note=f"The peak of each process.{more}")


def _quarantine(report: RunReport) -> Panel:
    title = "Quarantine reasons"
    if not report.quarantine:
        return Panel(title=title, words="No row is quarantined.")
    bars = [Bar(label=reason, value=count, shown=f"{count:,}", tone="warn") for reason, count in largest(report.quarantine)]
    return _bars("quarantine", title, bars, heads=("reason", "rows"))


def _rank_name(rank: RankWork) -> str:
    return f"{rank.host}, rank {rank.rank}" if rank.host else f"rank {rank.rank}"


def largest(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The largest counts first; the rest is summed in one last entry."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[_BARS:])
    return [*ranked[:_BARS], *([("other reasons", rest)] if rest else [])]


def projection_panel(projection: Projection) -> Panel:
    """The map of the sampled vectors."""
    title, (across, up) = "A map of the vectors", projection.kept
    legend = list(zip(GROUPS, (group.name for group in projection.groups), strict=False)) if projection.field else []
    counts = [(group.name, f"{len(group.points):,}") for group in projection.groups]
    by = f", coloured by {projection.field}" if projection.field else ""
    described = f"{projection.rows:,} rows{by}: {'; '.join(f'{name}: {count}' for name, count in counts)}."
    chart = point_chart(
        [group.points for group in projection.groups],
        key="map",
        title=title,
        description=described,
        along=(f"{across:.0%} of the variance", f"{up:.0%} of the variance"),
    )
    note = (
        f"A sample of {projection.rows:,} rows{by}. Distances are approximate: two principal components of the vectors"
        f" ({projection.method}, which keeps {across + up:.0%} of the variance)."
    )
    return Panel(title=title, note=note, chart=chart, legend=legend, heads=(projection.field or "rows", "in the sample"), rows=counts)
