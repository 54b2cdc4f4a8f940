"""Renders a run's report: a self-contained HTML page, and Markdown for a Prefect artifact."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.adapters.report.axes import shorten
from tasks.adapters.report.panels import largest, panels, projection_panel
from tasks.adapters.report.search_page import ShownHit, inline, show_hit
from tasks.adapters.report.templates import render, sound
from tasks.domain.estimate.formatting import format_outcome
from tasks.domain.number_format import duration, money, size
from tasks.domain.report.figures import Example
from tasks.domain.report.run_report import RunReport, report_headline

MOST_BYTES = 2_000_000  # of a page, so that it can be sent by mail
_SETTINGS = 20_000  # characters of the job that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key figure."""

    name: str
    shown: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A small table of names and values."""

    title: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table with column heads; the first cell of each row is its header."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownExample:
    """An example search as the page shows it."""

    kind: str
    mode: str
    asked: str
    text: str
    picture: str | None
    hits: Sequence[ShownHit]
    drawn: bool


def render_report(report: RunReport, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page: without scripts or network access, under `MOST_BYTES`; all text from the corpus is escaped.

    Args:
        report: the report.
        pictures: JPEGs by key, for the example searches of an image corpus.
    """
    page = _render(report, pictures or {})
    if len(page.encode()) >= MOST_BYTES:
        left_out = {**report.left_out, "examples": "the page would be larger than 2 MB"}
        page = _render(report.model_copy(update={"examples": (), "left_out": left_out}), {})
    return page


def _render(report: RunReport, pictures: Mapping[str, bytes]) -> str:
    all_panels = panels(report)
    grids = [_cost(report), _devices(report), _estimated(report), _comparison(report), _gate(report), _precision(report)]
    return render(
        "report.html",
        report=report,
        headline=report_headline(report),
        verdict=_verdict(report),
        begun=f"{report.started:%-d %B %Y, %H:%M} UTC",
        took=duration(report.wall_seconds),
        keys=_keys(report),
        tables=[grid for grid in grids if grid],
        drawn=[panel for panel in all_panels if panel.chart],
        texts=[panel for panel in all_panels if not panel.chart],
        vector_map=projection_panel(report.projection) if report.projection else None,
        examples=[_shown(example, pictures) for example in report.examples],
        details=[table for table in _details(report) if table.rows],
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False)[:_SETTINGS],
    )


def markdown_report(report: RunReport) -> str:
    """The figures as Markdown for a Prefect artifact, without any text from the corpus except its name."""
    figures = {key.name: key.shown for key in _keys(report)}
    rows = {**figures, **{name: f"{count:,}" for name, count in report.rows.model_dump().items()}}.items()  # each figure once
    lines = [f"# {report_headline(report)}", "", "| figure | value |", "|---|---:|", *(f"| {name} | {shown} |" for name, shown in rows)]
    if report.quarantine:
        lines += ["", "| quarantine reason | rows |", "|---|---:|"]
        lines += [f"| {escape(reason)} | {count:,} |" for reason, count in largest(report.quarantine)]
    if report.estimate_outcomes:
        lines += ["", "| estimate | expected | actual | deviation |", "|---|---:|---:|---:|"]
        lines += [f"| {' | '.join(format_outcome(outcome))} |" for outcome in report.estimate_outcomes]
    if found := report.precision_quality:
        lines += ["", f"| vectors | nDCG@{found.at_k} | recall@{found.at_k} | MRR |", "|---|---:|---:|---:|"]
        lines += [f"| {name} | {of.ndcg} | {of.recall} | {of.mrr} |" for name, of in found.rows_by_name]
        lines += ["", f"{found.asked}."]
    if report.failures:
        lines += ["", "| failed shard | error |", "|---|---|"]
        lines += [f"| {escape(shard.name)} | {escape(shard.error)} |" for shard in report.failures[:20]]
    return sound("\n".join([*lines, "", *_whole_report(report.page)]))


def _whole_report(page: str) -> list[str]:
    """The location of the whole report; for a path also the machine that ran the flow, since the reader may use another."""
    if not page:
        return []
    machine = "" if "://" in page else f", on the machine `{socket.gethostname()}`"
    return [f"Full report{machine}: `{page}`", ""]


def escape(text: str, longest: int = 160) -> str:
    """Escape text for Markdown, including table cells: markup, pipes and HTML are shown literally."""
    plain = shorten(text, longest)
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+!|<>&~" else letter for letter in plain)


def _verdict(report: RunReport) -> dict[str, str]:
    if report.failed:
        return {"tone": "bad", "text": f"The run failed: {report.failed}"}
    if report.shards.failed:
        return {"tone": "bad", "text": "Not complete: shards failed"}
    if report.verified:
        exact = "; the collection holds exactly these rows" if report.exact else ""
        return {"tone": "good", "text": f"Verified{': ' + report.proved if report.proved else ''}{exact}"}
    return {"tone": "warn", "text": "Not verified"}


def _keys(report: RunReport) -> list[Key]:
    rows, shards = report.rows, report.shards
    keys = [Key(name="rows searchable", shown=f"{rows.loaded:,}", note=f"of {rows.source:,}")]
    if report.rows_per_second:
        keys.append(Key(name="rows per second", shown=f"{report.rows_per_second:,.0f}", note="while encoding"))
    if report.tokens_per_second:
        keys.append(Key(name="tokens per second", shown=f"{report.tokens_per_second:,.0f}", note=f"{report.tokens:,} in total"))
    keys.append(Key(name="time", shown=duration(report.wall_seconds), note="from start to proof"))
    if report.cost and report.cost.dollars is not None:
        keys.append(Key(name="cost", shown=money(report.cost.dollars), note=f"at {money(report.cost.dollars_per_hour or 0.0)} per hour"))
    keys.append(Key(name="shards loaded", shown=f"{shards.loaded:,}", note=f"of {shards.planned:,}, {shards.failed:,} failed"))
    keys.append(
        Key(
            name="quarantined",
            shown=f"{rows.quarantined:,}",
            note=f"{rows.quarantined / rows.source:.2%} of rows" if rows.quarantined else "",
        )
    )
    return keys


def _cost(report: RunReport) -> Grid | None:
    """Throughput and cost of the whole run, including start-up and proof."""
    cost = report.cost
    if cost is None:
        return None
    priced = cost.dollars is not None
    rows = [("rows encoded", f"{report.rows.embedded:,}", _count(cost.rows_per_hour), *([_count(cost.rows_per_dollar)] if priced else []))]
    if report.tokens:
        rows.append(("tokens", f"{report.tokens:,}", _count(cost.tokens_per_hour), *([_count(cost.tokens_per_dollar)] if priced else [])))
    spent = f", {money(cost.dollars)} at {money(cost.dollars_per_hour or 0.0)} per hour" if cost.dollars is not None else ""
    missing = "" if priced else " Set report.price_per_hour in the job to see the cost."
    million = cost.dollars_per_million_rows
    spent += f", {money(million)} per million rows" if million is not None else ""
    note = f"{duration(report.wall_seconds)} from start to proof{spent}.{missing}"
    return Grid(title="Cost", note=note, heads=("", "total", "per hour", *(["per dollar"] if priced else [])), rows=rows)


def _devices(report: RunReport) -> Grid | None:
    """Utilization, memory and throughput of the devices while encoding."""
    if not report.devices:
        return None
    rows = [
        (
            device.name,
            device.host,
            "n/a" if device.utilization is None else f"{device.utilization:.0%}",
            size(device.memory_bytes) if device.memory_bytes else "",
            _count(device.rows_per_second),
            _count(device.tokens_per_second),
        )
        for device in report.devices
    ]
    note = "While rows were encoded: mean usage, and peak memory of a GPU."
    return Grid(title="Hardware", note=note, heads=("device", "host", "usage", "memory", "rows/s", "tokens/s"), rows=rows)


def _count(number: float | None) -> str:
    return "none" if number is None else f"{number:,.0f}"


def _estimated(report: RunReport) -> Grid | None:
    if report.estimate is None:
        return None
    rate = report.estimate.rate
    note = f"Estimated at the start of the run, from a sample{f' and {rate.origin}' if rate else ''}; ranges in brackets."
    rows = [format_outcome(outcome) for outcome in report.estimate_outcomes]
    return Grid(title="Estimate and outcome", note=note, heads=("figure", "expected", "actual", "deviation"), rows=rows)


def _comparison(report: RunReport) -> Grid | None:
    before = report.before
    if before is None:
        return None
    fates = {"in the source": "source", "encoded": "embedded", "reused": "reused", "quarantined": "quarantined", "searchable": "loaded"}
    rows = [(name, *_compared(getattr(report.rows, fate), getattr(before.rows, fate))) for name, fate in fates.items()]
    rows.append(("time", duration(report.wall_seconds), duration(before.seconds), _percent(report.wall_seconds, before.seconds)))
    now, then = report.rows_per_second, before.rows_per_second
    rows.append(("rows per second", _count(now), _count(then), _percent(now, then)))
    rows.append(("verified", "yes" if report.verified else "no", "yes" if before.verified else "no", ""))
    note = f"Run {before.run}, started {before.started:%-d %B %Y, %H:%M} UTC, of the same corpus and encoder."
    return Grid(title="Compared with the previous run", note=note, heads=("rows", "this run", "previous", "change"), rows=rows)


def _gate(report: RunReport) -> Grid | None:
    if report.gate is None:
        return None
    k = report.gate.at_k
    rows = [(of.mode, str(of.ndcg), str(of.recall), str(of.mrr)) for of in report.gate.modes]
    note = f"{report.gate.questions:,} questions with known answers; in brackets the 95% interval (bootstrap)."
    return Grid(title="Retrieval quality", note=note, heads=("search", f"nDCG@{k}", f"recall@{k}", "MRR"), rows=rows)


def _precision(report: RunReport) -> Grid | None:
    found = report.precision_quality
    if found is None:
        return None
    rows = [(name, str(of.ndcg), str(of.recall), str(of.mrr)) for name, of in found.rows_by_name]
    which = (
        f" They are the {found.nearest:,} nearest rows of each question in {found.precision} and the judged rows. Over the whole collection the"
        " figures of float32 are at most these: other rows could only rank above relevant ones."
    )
    whole = found.rows == found.of_rows
    note = f"{found.asked}; the rows are ranked exactly, questions are in float32.{'' if whole else which} Measured on {found.at[:10]}; in brackets the"
    heads = ("vectors", f"nDCG@{found.at_k}", f"recall@{found.at_k}", "MRR")
    return Grid(title="Retrieval quality beside float32", note=f"{note} 95% interval (bootstrap).", heads=heads, rows=rows)


def _compared(now: int, before: int) -> tuple[str, str, str]:
    return f"{now:,}", f"{before:,}", f"{now - before:+,}" if now != before else ""


def _percent(now: float | None, before: float | None) -> str:
    return "" if not now or not before else f"{now / before - 1:+,.0%}"


def _shown(example: Example, pictures: Mapping[str, bytes]) -> ShownExample:
    hits = [show_hit(hit.id, hit.score, {"text": hit.text, **hit.fields}, pictures.get(hit.id), hit.passage) for hit in example.hits]
    own = pictures.get(example.asked) if example.kind == "row" else None
    drawn = any(hit.picture for hit in hits)
    return ShownExample(
        kind=example.kind, mode=example.mode, asked=example.asked, text=example.text, picture=inline(own), hits=hits, drawn=drawn
    )


def _details(report: RunReport) -> list[Facts]:
    encoder, facts, target = report.encoder, report.facts, report.target
    rows = [("kind", encoder.kind), ("model", encoder.model), ("revision", encoder.revision or "none"), ("precision", encoder.precision)]
    rows += [("fingerprint", encoder.fingerprint), ("weights", encoder.weights)]
    if facts:
        rows += [
            ("dimensions", f"{facts.dim:,}"),
            ("longest input", f"{facts.max_seq_length:,} tokens" if facts.max_seq_length else "unlimited"),
        ]
        rows += [("device", facts.device), *([("why this precision", facts.note)] if facts.note else [])]
    if report.backend:
        rows.append(("backend", report.backend))
    if facts and facts.lowest_cosine is not None:
        mean = f", mean {facts.mean_cosine:.6f}" if facts.mean_cosine is not None else ""
        rows.append(("cosine to float32", f"lowest {facts.lowest_cosine:.6f}{mean}"))
    if report.precision_quality:
        rows.append(("beside float32", report.precision_quality.line))
    places = [("target", target.uri), ("alias", target.alias), ("collection", target.collection)]
    return [
        Facts(title="Encoder", rows=rows),
        Facts(title="Collection", rows=[*places, ("parts adopted", f"{report.adopted:,}")]),
        Facts(title="Start-up", rows=[(step, duration(taken)) for step, taken in report.startup.items()]),
        Facts(title="Omitted from this page", rows=list(report.left_out.items())),
        Facts(title="Versions", rows=list(report.versions.items())),
    ]
