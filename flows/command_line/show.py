"""Formats the results of commands as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.command_line.text.tables import CONTROLS, table_text
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.estimate.formatting import format_estimate
from tasks.domain.estimate.intervals import between
from tasks.domain.number_format import number
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.report.hosts import HostsOfRun, host_line
from tasks.domain.shards.removal import RULES, Rule
from tasks.domain.shards.seal import ChunkCounts, format_chunks
from tasks.domain.shards.unread_files import UnreadFiles, format_unread
from tasks.domain.target.collection import Hit
from tasks.domain.target.proof import Proof, compared, scope
from tasks.domain.target.retrieval_quality import Evaluation, PrecisionQuality

if TYPE_CHECKING:  # imports Prefect, which must not be imported before its server is known
    from tasks.commands.inspect import Listed, Status

HOSTS_NAMED = 64  # maximum hosts that `status` lists
SNIPPET = 160  # maximum characters of a hit's text


def run_text(result: dict[str, Any]) -> str:
    """Format the result of a run."""
    rows, shards = result["rows"], result["shards"]
    summary = f"{rows['loaded']:,} of {rows['source']:,} rows are searchable" + (", verified" if result["verified"] else ", not verified")
    if rows["source"] and rows["quarantined"] == rows["source"]:
        summary = f"no row is searchable: all {rows['source']:,} are quarantined (failures.max_quarantined allows it)"
    encoded = "nothing had to be encoded" if not rows["embedded"] else f"{rows['embedded']:,} encoded now"
    parts = [encoded, *(f"{rows[fate]:,} {fate}" for fate in ("reused", "cached", "duplicates", "quarantined") if rows.get(fate))]
    lines = [summary, f"rows:   {', '.join(parts)}", f"shards: {shards['loaded']:,} of {shards['planned']:,} loaded"]
    lines += [f"chunks: {format_chunks(ChunkCounts.model_validate(result['chunks']))}"] if result.get("chunks") else []
    lines += [f"proof:  {result['proof']}"] if result.get("proof") else []
    return "\n".join([*lines, *(f"note:   {note}" for note in result["notes"]), f"report: {result['report']}"])


def promoted_text(result: dict[str, Any]) -> str:
    """Format which collection the alias points to now."""
    now = f"alias '{result['alias']}' points to '{result['collection']}'"
    before = (
        " (unchanged)" if result["before"] == result["collection"] else f" (previously '{result['before']}')" if result["before"] else ""
    )
    return "\n".join([*result["told"], now + before])


def plan_text(plan: dict[str, Any]) -> str:
    """Format what a run would do, and the resources it would use."""
    rows, shards, estimate = plan["rows"], plan["shards"], Estimate.model_validate(plan["estimate"])
    counted = None if rows["source"] is None else f"{rows['source']:,}"
    if counted is None and not shards["sealed"]:  # no file states its rows; nothing is sealed, so the estimate covers all of them
        counted = between(estimate.rows, number)
    left = "" if rows["to_encode"] is None else f"; {'at most ' if estimate.at_most else ''}{rows['to_encode']:,} rows to encode"
    rows_in = f"{counted} rows in " if counted else ""
    summary = f"{plan['corpus']}: {rows_in}{shards['planned']:,} {'shard' if shards['planned'] == 1 else 'shards'}, {shards['sealed']:,} of them sealed{left}"
    figures = [f"{name + ':':<11} {value}" for name, value in format_estimate(estimate)]
    unread = [format_unread([UnreadFiles.model_validate(some) for some in plan["unread"]])] if plan["unread"] else []
    notes = [f"{'note:':<11} {note}" for note in (*unread, *plan.get("notes", ()))]
    return "\n".join([summary, *figures, *notes, *map(removal_text, plan.get("removals", {}).items())])


def removal_text(removal: tuple[Rule, dict[str, int]]) -> str:
    """Format the rows that a run would remove from the collection, and by which rule."""
    rule, counts = removal
    files = f"{counts['files']:,} {'file' if counts['files'] == 1 else 'files'}"
    return f"{'removes:':<11} {'up to ' if rule == 'replaced' else ''}{counts['rows']:,} rows {RULES[rule]} ({files})"


def dry_run_text(plan: dict[str, Any]) -> str:
    """Format the result of a dry run."""
    return f"{plan_text(plan)}\nThis was a dry run: nothing was sealed or loaded."


def status_text(status: Status) -> str:
    """Format the state of a corpus."""
    rows, shards = status.rows, status.shards
    cached = f"{rows.cached:,} cached, " if rows.cached else ""
    lines = [
        f"shards: {shards.planned:,} planned, {shards.sealed:,} sealed, {shards.loaded:,} loaded",
        f"rows:   {rows.source:,} read, {rows.embedded:,} embedded, {cached}{rows.duplicates:,} duplicates, {rows.quarantined:,} quarantined, {rows.loaded:,} loaded",
        f"proof:  {'verified' if status.verified else 'not verified in its current state'}",
        f"alias:  {_alias_text(status)}",
    ]
    lines += [f"        {count:,} quarantined: {reason}" for reason, count in sorted(status.quarantine.items(), key=lambda kind: -kind[1])]
    lines += [f"run:    {live_text(status.live)}"] if status.live else []
    lines += [f"model:  {status.model}"] if status.model else []
    lines += [f"note:   {note}" for note in status.notes]
    lines += hosts_text(status.hosts) if status.hosts else []
    lines += [f"report: {status.report}"] if status.report else []
    lines += [f"damage: {line}" for line in status.damaged]
    lines += ["\nFrom an application:\n", status.code.rstrip()] if status.code else []
    return "\n".join([("complete" if status.complete else "not complete yet"), *lines])


def live_text(run: LiveRun) -> str:
    """Format a run in progress."""
    return (
        f"{run.flow} on {run.machine}: {run.snapshot.phase}, {run.snapshot.of_rows} rows encoded (`kitestring status --watch` follows it)"
    )


def hosts_text(record: HostsOfRun) -> list[str]:
    """Format what each host of a run has done."""
    left = len(record.hosts) - HOSTS_NAMED
    of = f"of run {record.run}, which has ended" if record.ended else f"of run {record.run} at {record.at}, before its end"
    more = [f"        and {left:,} more: --json has all of them"] if left > 0 else []
    return [f"hosts:  {len(record.hosts):,} {of}", *(f"        {host_line(host)}" for host in record.hosts[:HOSTS_NAMED]), *more]


def _alias_text(status: Status) -> str:
    if status.alias_error:
        return f"unknown: {status.alias_error}"
    if status.alias_target is None:
        return "not set yet"
    ours = "" if status.searched else f", not to '{status.collection}'"
    return f"'{status.alias}' points to '{status.alias_target}'{ours}"


def proof_text(proof: Proof) -> str:
    """Format what was compared, and the differences."""
    lines = [*proof.reasons, *(f"compared: {line}" for line in compared(proof) if proof.counts)]
    summary = f"verified: {scope(proof)}" if proof.proved else "not verified"
    exact = ["the collection holds exactly these rows"] if proof.exact else []
    return "\n".join([summary, *(f"  {line}" for line in [*lines, *exact]), *(f"note: {line}" for line in proof.notes)])


def difference_text(difference: Listed) -> str:
    """Format a difference with a mark: - is only sealed, + only in the collection, ~ is in both and differs."""
    mark = {"source": "-", "collection": "+"}.get(difference.only_in or "", "~")
    detail = "" if difference.kind in ("absent", "extra") else f"  {difference.kind}{': ' + difference.told if difference.told else ''}"
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", f"{mark} {difference.key}  ({difference.shard}){detail}")


def swept_text(swept: dict[str, Any]) -> str:
    """Format the result of `gc`."""
    parts, unfinished = swept["parts"], swept["unfinished"]
    objects = [f"{parts:,} unreferenced parts"] if parts else []
    objects += [f"{swept['keys']:,} outdated key files"] if swept["keys"] else []
    objects += [f"{unfinished:,} unfinished files"] if unfinished else []
    summary = f"{', '.join(objects)}, {swept['bytes'] / 2**20:,.1f} MiB" if objects else "nothing to remove"
    done = "removed" if swept["deleted"] else "--delete removes them"
    kept = "; parts of unsealed shards are kept, because a run of the last 24 hours may still be active" if swept["busy"] else ""
    lines = [f"{summary}: {done}{kept}" if objects else f"{summary}{kept}"]
    lines += [f"collection '{name}' was never promoted: {done}" for name in swept["collections"]]
    lines += [f"kept, because references cannot be read: {reason}" for reason in swept["unread"]]
    return "\n".join([*lines, *([f"not all collections were checked: {swept['unseen']}"] if swept["unseen"] else [])])


def quality_text(measured: Evaluation, beside: PrecisionQuality | None = None) -> str:
    """Format retrieval quality as a table with a row for each search mode; `beside`: a second table, of 8 bits and float32."""
    k, collection = measured.at_k, measured.collection
    rows = [(of.mode, str(of.ndcg), str(of.recall), str(of.mrr)) for of in measured.modes]
    table = table_text(("search", f"nDCG@{k}", f"recall@{k}", "MRR"), rows)
    about = f"{measured.questions:,} questions to '{collection}'; in brackets the 95% interval (bootstrap)"
    if beside is None:
        return f"{table}\n{about}"
    figures = [(name, str(of.ndcg), str(of.recall), str(of.mrr)) for name, of in beside.rows_by_name]
    other = table_text(("vectors", f"nDCG@{k}", f"recall@{k}", "MRR"), figures)
    return f"{table}\n{about}\n\n{other}\n{beside.asked}; the rows are ranked exactly"


def hits_text(hits: list[Hit], *, explain: bool = False) -> str:
    """Format hits as a table; with `explain`, also with each hit's rank by meaning and by words (-: not among those hits)."""
    if not hits:
        return "no hits"
    ranks = [[str(rank or "-") for rank in (hit.by_meaning, hit.by_words)] if explain else [] for hit in hits]
    rows = [(f"{hit.score:.3f}", *rank, hit.id, _snippet(hit)) for hit, rank in zip(hits, ranks, strict=True)]
    return table_text(("score", *(["meaning", "words"] if explain else []), "id", "content"), rows)


def _snippet(hit: Hit) -> str:
    text = " ".join(str(hit.fields.get("text", "")).split())
    others = ", ".join(f"{name}={value}" for name, value in hit.fields.items() if name not in {"text", "id"})
    cut = _short(text)
    return f"{cut}\n({others})" if cut and others else cut or others


def _short(text: str) -> str:
    return text[:SNIPPET] + ("…" if len(text) > SNIPPET else "")


def quarantine_text(rows: list[dict[str, Any]]) -> str:
    """Format quarantined rows as a table."""
    if not rows:
        return "no row is quarantined"
    cells = [(row["shard"], str(row["row"]), _short(row["id"] or ""), row["reason"]) for row in rows]
    return table_text(("shard", "row", "id", "reason"), cells)
