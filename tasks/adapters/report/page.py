"""A run's report for people: one HTML page that needs nothing but itself, and Markdown for an artifact."""

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

MOST_BYTES = 2_000_000  # of a page, that it can be sent by mail
_SETTINGS = 20_000  # characters of the job that are shown


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table with heads; the first cell of each row names it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownExample:
    """A search as the page shows it."""

    kind: str
    mode: str
    asked: str
    text: str
    picture: str | None
    hits: Sequence[ShownHit]
    drawn: bool


def render_report(report: RunReport, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page: no scripts and no network, under `MOST_BYTES`; whatever came from the corpus is escaped.

    Args:
        report: what to show.
        pictures: JPEGs by key, for the example searches of an image corpus.
    """
    page = _render(report, pictures or {})
    if len(page.encode()) >= MOST_BYTES:
        told = {**report.left_out, "examples": "the page would be larger than 2 MB"}
        page = _render(report.model_copy(update={"examples": (), "left_out": told}), {})
    return page


def _render(report: RunReport, pictures: Mapping[str, bytes]) -> str:
    made = panels(report)
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
        drawn=[panel for panel in made if panel.chart],
        told=[panel for panel in made if not panel.chart],
        look=projection_panel(report.projection) if report.projection else None,
        examples=[_shown(example, pictures) for example in report.examples],
        details=[table for table in _details(report) if table.rows],
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False)[:_SETTINGS],
    )


def markdown_report(report: RunReport) -> str:
    """The figures as Markdown for a Prefect artifact, without any text from the corpus but the corpus' name."""
    figures = {key.name: key.shown for key in _keys(report)}
    rows = {**figures, **{name: f"{count:,}" for name, count in report.rows.model_dump().items()}}.items()  # each figure once
    lines = [f"# {report_headline(report)}", "", "| figure | value |", "|---|---:|", *(f"| {name} | {shown} |" for name, shown in rows)]
    if report.quarantine:
        lines += ["", "| reason of quarantine | rows |", "|---|---:|"]
        lines += [f"| {escape(reason)} | {count:,} |" for reason, count in largest(report.quarantine)]
    if report.estimate_outcomes:
        lines += ["", "| estimate | expected | came | off by |", "|---|---:|---:|---:|"]
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
    """Where it is; a path is one of the machine that ran the flow, which is not the reader's."""
    if not page:
        return []
    machine = "" if "://" in page else f", on the machine `{socket.gethostname()}`"
    return [f"The whole report{machine}: `{page}`", ""]


def escape(text: str, longest: int = 160) -> str:
    """Text for Markdown, a table's cell too: marks, pipes and HTML are data."""
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
        keys.append(Key(name="rows a second", shown=f"{report.rows_per_second:,.0f}", note="while encoding"))
    if report.tokens_per_second:
        keys.append(Key(name="tokens a second", shown=f"{report.tokens_per_second:,.0f}", note=f"{report.tokens:,} in all"))
    keys.append(Key(name="time", shown=duration(report.wall_seconds), note="from start to proof"))
    if report.cost and report.cost.dollars is not None:
        keys.append(Key(name="cost", shown=money(report.cost.dollars), note=f"at {money(report.cost.dollars_per_hour or 0.0)} an hour"))
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
    """Figures for the whole run, start-up and proof included."""
    cost = report.cost
    if cost is None:
        return None
    priced = cost.dollars is not None
    rows = [("rows encoded", f"{report.rows.embedded:,}", _count(cost.rows_per_hour), *([_count(cost.rows_per_dollar)] if priced else []))]
    if report.tokens:
        rows.append(("tokens", f"{report.tokens:,}", _count(cost.tokens_per_hour), *([_count(cost.tokens_per_dollar)] if priced else [])))
    spent = f", {money(cost.dollars)} at {money(cost.dollars_per_hour or 0.0)} an hour" if cost.dollars is not None else ""
    missing = "" if priced else " With report.price_per_hour in the job it says what that costs."
    million = cost.dollars_per_million_rows
    spent += f", {money(million)} for a million rows" if million is not None else ""
    note = f"{duration(report.wall_seconds)} from start to proof{spent}.{missing}"
    return Grid(title="What it cost", note=note, heads=("", "in all", "an hour", *(["a dollar"] if priced else [])), rows=rows)


def _devices(report: RunReport) -> Grid | None:
    """While rows were encoded."""
    if not report.devices:
        return None
    rows = [
        (
            device.name,
            device.host,
            "not seen" if device.utilization is None else f"{device.utilization:.0%}",
            size(device.memory_bytes) if device.memory_bytes else "",
            _count(device.rows_per_second),
            _count(device.tokens_per_second),
        )
        for device in report.devices
    ]
    note = "While rows were encoded: the mean share of the time in use, and the most memory of a GPU."
    return Grid(title="Hardware", note=note, heads=("device", "host", "in use", "memory", "rows a second", "tokens a second"), rows=rows)


def _count(number: float | None) -> str:
    return "none" if number is None else f"{number:,.0f}"


def _estimated(report: RunReport) -> Grid | None:
    if report.estimate is None:
        return None
    rate = report.estimate.rate
    note = f"Estimated when the run began, from a sample{f' and {rate.origin}' if rate else ''}; the range in brackets."
    rows = [format_outcome(outcome) for outcome in report.estimate_outcomes]
    return Grid(title="Estimate and outcome", note=note, heads=("figure", "expected", "came", "off by"), rows=rows)


def _comparison(report: RunReport) -> Grid | None:
    before = report.before
    if before is None:
        return None
    fates = {"in the source": "source", "encoded": "embedded", "reused": "reused", "quarantined": "quarantined", "searchable": "loaded"}
    rows = [(name, *_compared(getattr(report.rows, fate), getattr(before.rows, fate))) for name, fate in fates.items()]
    rows.append(("time", duration(report.wall_seconds), duration(before.seconds), _percent(report.wall_seconds, before.seconds)))
    now, then = report.rows_per_second, before.rows_per_second
    rows.append(("rows a second", _count(now), _count(then), _percent(now, then)))
    rows.append(("verified", "yes" if report.verified else "no", "yes" if before.verified else "no", ""))
    note = f"Run {before.run}, begun {before.started:%-d %B %Y, %H:%M} UTC, of the same corpus and encoder."
    return Grid(title="Compared with the run before", note=note, heads=("rows", "this run", "before", "change"), rows=rows)


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
        mean = f", {facts.mean_cosine:.6f} in the mean" if facts.mean_cosine is not None else ""
        told.append(("cosine to float32", f"{facts.lowest_cosine:.6f} at the least{mean}"))
    if report.precision_quality:
        told.append(("beside float32", report.precision_quality.line))
    served = [("target", target.uri), ("alias", target.alias), ("collection", target.collection)]
    return [
        Facts(title="Encoder", rows=told),
        Facts(title="Collection", rows=[*served, ("parts adopted", f"{report.adopted:,}")]),
        Facts(title="Start-up", rows=[(step, duration(taken)) for step, taken in report.startup.items()]),
        Facts(title="Left out of this page", rows=list(report.left_out.items())),
        Facts(title="Versions", rows=list(report.versions.items())),
    ]
