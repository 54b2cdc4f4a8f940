"""Questions put into a file of a gate, by somebody who has marked the right hits. The file is replaced as a whole, so it is never half written."""

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

_turn = threading.Lock()
CSV_HEADER = "query,id,gain\n"


def known_questions(path: str, where: str) -> list[Question]:
    """Those that a file holds; none where it is not there or empty yet.

    Raises:
        BadInput: it cannot be read, or is not of its form (names the line).
    """
    file = Path(path)
    return [] if not file.exists() or _is_blank(file) else read_questions(path, where)


def _is_blank(file: Path) -> bool:
    try:
        return not file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return False  # which reading it tells


def check_questions(path: str, where: str) -> None:
    """See that questions can be saved to a file, before anybody has marked hits for nothing.

    Raises:
        BadInput: as `known_questions`, or its folder is not there.
    """
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise BadInput(f"{where}: there is no folder '{folder}' for '{path}': make it, or name another file")
    known_questions(path, where)


def save_question(path: str, query: str, relevant: list[str], where: str) -> bool:
    """Put a question with its right answers (worth 1; those that are known keep what they are worth) into a file.

    One that is there already is replaced at its place. True: it is new.

    Raises:
        BadInput: no answer is given; or the file cannot be read or written, or is not of its form, and was left as it is.
    """
    if not query.strip():
        raise BadInput("the question to save is empty")
    if not relevant:
        raise BadInput("no hit is marked as right: a question is saved with at least one")
    with _turn:
        known = next((each for each in known_questions(path, where) if each.query == query), None)
        gains = {key: known.relevant.get(key, 1.0) or 1.0 if known else 1.0 for key in relevant}
        if known is None or gains != known.relevant:
            _replace(Path(path), query, gains, where)
    return known is None


def _replace(path: Path, query: str, gains: dict[str, float], where: str) -> None:
    try:
        path = path.resolve()  # a link stays one
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            text += "\n"
        changed = _csv_with if path.suffix.lower() == ".csv" else _json_lines_with
        _write_whole(path, changed(text, query, gains))
    except OSError as error:
        raise BadInput(f"{where}: '{path}' cannot be written: {error.strerror}") from error


def _json_lines_with(text: str, query: str, gains: dict[str, float]) -> str:
    worth = list(gains) if set(gains.values()) == {1.0} else gains
    ours = json.dumps({"query": query, "relevant": worth}, ensure_ascii=False).encode(errors="replace").decode() + "\n"
    lines = [line for line in text.split("\n") if line.strip()]
    at = [number for number, line in enumerate(lines) if json.loads(line)["query"] == query]
    if not at:
        return text + ours
    kept = (ours if number == at[0] else f"{line}\n" for number, line in enumerate(lines) if number not in at[1:])
    return "".join(kept)


def _csv_with(text: str, query: str, gains: dict[str, float]) -> str:
    """Lines of other questions stay as they are; those of this one come last."""
    records = list(_records(text or CSV_HEADER))
    header = next(csv.reader([records[0]]))
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    for key, gain in gains.items():
        writer.writerow({"query": query, "id": key, "gain": f"{gain:g}"})
    place = header.index("query")
    return "".join([records[0], *(each for each in records[1:] if next(csv.reader([each]))[place] != query), out.getvalue()])


def _records(text: str) -> Iterator[str]:
    """Each record as it is written; one may have several lines. Empty ones are left out."""
    lines, begun = text.splitlines(keepends=True), 0
    reader = csv.reader(lines)
    for _ in reader:
        record = "".join(lines[begun : reader.line_num])
        begun = reader.line_num
        if record.strip():
            yield record


def _write_whole(path: Path, text: str) -> None:
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
