"""Reads questions with known answers, for a gate or an evaluation, from JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.domain.errors import BadInput
from tasks.domain.job.gate import Question

WHERE = "target.gate.queries"


def read_questions(path: str, where: str = WHERE) -> list[Question]:
    """Return the questions of a file in order; rows of a CSV are grouped by question. `where`: the setting that names the file, for errors.

    Raises:
        BadInput: the file is missing, malformed (names the line), or has no question.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{where}: there is no file '{path}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: '{path}' cannot be read: {error}") from error
    questions = list(_from_csv(text, path, where) if path.lower().endswith(".csv") else _from_json_lines(text, path, where))
    if not questions:
        raise BadInput(f"{where}: '{path}' has no question")
    return questions


def _from_json_lines(text: str, path: str, where: str) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            relevant = entry["relevant"]
            gains = relevant.items() if isinstance(relevant, dict) else ((key, 1) for key in _listed(relevant))
            yield _question(entry["query"], {str(key): float(gain) for key, gain in gains})
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f'{where}: line {number} of \'{path}\' is not like {{"query": "words", "relevant": ["id"]}}') from error


def _listed(relevant: object) -> list[object]:
    if not isinstance(relevant, list):
        raise TypeError(relevant)
    return relevant


def _from_csv(text: str, path: str, where: str) -> Iterator[Question]:
    gains: dict[str, dict[str, float]] = defaultdict(dict)
    reader = csv.DictReader(io.StringIO(text))
    for row in reader:
        try:
            gains[row["query"]][row["id"]] = float(row.get("gain") or 1)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{where}: line {reader.line_num} of '{path}' lacks the columns query, id and optionally gain") from error
    return (_question(query, relevant) for query, relevant in gains.items())


def _question(query: Any, relevant: dict[str, float]) -> Question:
    if not isinstance(query, str) or not query.strip() or not any(gain > 0 for gain in relevant.values()):
        raise ValueError(query)
    return Question(query=query, relevant=relevant)
