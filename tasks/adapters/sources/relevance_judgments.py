"""Questions with known answers, of a gate or an evaluation, read from JSON Lines or CSV."""

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
    """Every question of a file, in its order; those of a CSV are put together by their text. `where`: what named the file, for errors.

    Raises:
        BadInput: not there, not of this form (names the line), or no question in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{where}: there is no file '{path}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: '{path}' cannot be read: {error}") from error
    found = list(_from_csv(text, path, where) if path.lower().endswith(".csv") else _from_json_lines(text, path, where))
    if not found:
        raise BadInput(f"{where}: '{path}' holds no question")
    return found


def _from_json_lines(text: str, path: str, where: str) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            relevant = given["relevant"]
            gains = relevant.items() if isinstance(relevant, dict) else ((key, 1) for key in _listed(relevant))
            yield _question(given["query"], {str(key): float(gain) for key, gain in gains})
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
            raise BadInput(f"{where}: line {reader.line_num} of '{path}' has not the columns query, id and (if wanted) gain") from error
    return (_question(query, relevant) for query, relevant in gains.items())


def _question(query: Any, relevant: dict[str, float]) -> Question:
    if not isinstance(query, str) or not query.strip() or not any(gain > 0 for gain in relevant.values()):
        raise ValueError(query)
    return Question(query=query, relevant=relevant)
