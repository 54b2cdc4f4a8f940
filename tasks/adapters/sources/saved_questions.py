"""Saves questions, with hits that a user marked as relevant, to a gate's file. The file is replaced atomically."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.domain.errors import BadInput
from tasks.domain.job.gate import Question

_lock = threading.Lock()
CSV_HEADER = "query,id,gain\n"


def known_questions(path: str, where: str) -> list[Question]:
    """Return the questions of a file; none if it is missing or empty.

    Raises:
        BadInput: it cannot be read, or is malformed (names the line).
    """
    file = Path(path)
    return [] if not file.exists() or _is_blank(file) else read_questions(path, where)


def _is_blank(file: Path) -> bool:
    try:
        return not file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return False  # reading it will report the error


def check_questions(path: str, where: str) -> None:
    """Check that questions can be saved to a file, before a user marks hits in vain.

    Raises:
        BadInput: as `known_questions`, or its folder is missing.
    """
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise BadInput(f"{where}: there is no folder '{folder}' for '{path}': create it, or name another file")
    known_questions(path, where)


def save_question(path: str, query: str, relevant: list[str], where: str) -> bool:
    """Save a question with its relevant keys to a file. Keys get gain 1; known keys keep their gain.

    An existing question is replaced. Returns whether the question is new.

    Raises:
        BadInput: there is no relevant key; or the file cannot be read or written, or is malformed, and stays unchanged.
    """
    if not query.strip():
        raise BadInput("the question to save is empty")
    if not relevant:
        raise BadInput("no hit is marked as right: a question is saved with at least one")
    with _lock:
        known = next((each for each in known_questions(path, where) if each.query == query), None)
        gains = {key: known.relevant.get(key, 1.0) or 1.0 if known else 1.0 for key in relevant}
        if known is None or gains != known.relevant:
            _replace(Path(path), query, gains, where)
    return known is None


def _replace(path: Path, query: str, gains: dict[str, float], where: str) -> None:
    try:
        path = path.resolve()  # keep a symbolic link
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            text += "\n"
        changed = _csv_with if path.suffix.lower() == ".csv" else _json_lines_with
        _write_atomically(path, changed(text, query, gains))
    except OSError as error:
        raise BadInput(f"{where}: '{path}' cannot be written: {error.strerror}") from error


def _json_lines_with(text: str, query: str, gains: dict[str, float]) -> str:
    relevant = list(gains) if set(gains.values()) == {1.0} else gains
    record = json.dumps({"query": query, "relevant": relevant}, ensure_ascii=False).encode(errors="replace").decode() + "\n"
    lines = [line for line in text.split("\n") if line.strip()]
    at = [number for number, line in enumerate(lines) if json.loads(line)["query"] == query]
    if not at:
        return text + record
    merged = (record if number == at[0] else f"{line}\n" for number, line in enumerate(lines) if number not in at[1:])
    return "".join(merged)


def _csv_with(text: str, query: str, gains: dict[str, float]) -> str:
    """Keep the lines of other questions unchanged; those of this one come last."""
    records = list(_records(text or CSV_HEADER))
    header = next(csv.reader([records[0]]))
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    for key, gain in gains.items():
        writer.writerow({"query": query, "id": key, "gain": f"{gain:g}"})
    column = header.index("query")
    return "".join([records[0], *(each for each in records[1:] if next(csv.reader([each]))[column] != query), out.getvalue()])


def _records(text: str) -> Iterator[str]:
    """Yield the text of each record, which may have several lines; skips empty ones."""
    lines, begun = text.splitlines(keepends=True), 0
    reader = csv.reader(lines)
    for _ in reader:
        record = "".join(lines[begun : reader.line_num])
        begun = reader.line_num
        if record.strip():
            yield record


def _write_atomically(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
