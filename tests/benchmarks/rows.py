"""What is encoded: passages of the standard library's documentation, and short rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.sources.stdlib_docs import passages
from tests.builders.kitestring import text_of

ROW_GROUP = 250


def write_passages(path: Path, count: int) -> Path:
    """A Parquet file with so many passages, taken evenly from all of them: their lengths are as skewed as in the whole.

    Where more are asked for than there are (6,634 with Python 3.11), each comes again with its words begun elsewhere.
    """
    found = list(passages())
    times = -(-count // len(found))
    chosen = [(p, turn) for turn in range(times) for p in found]
    chosen = [chosen[at * len(chosen) // count] for at in range(count)]
    columns = {
        "id": [f"{p.id}#{turn}" if turn else p.id for p, turn in chosen],
        "text": [_turned(p.text, turn) for p, turn in chosen],
        "module": [p.module for p, _ in chosen],
    }
    pq.write_table(pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()}), path, row_group_size=ROW_GROUP)
    return path


def _turned(text: str, turn: int) -> str:
    if not turn:
        return text
    words = text.split()
    start = turn % max(1, len(words))
    return " ".join([*words[start:], *words[:start]])


def write_short_rows(path: Path, count: int, *, row_group: int = 5_000) -> Path:
    """A Parquet file of texts of 3 to 40 words; holds one row group in memory."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as file:
        for first in range(0, count, row_group):
            rows = range(first, min(first + row_group, count))
            file.write_table(pa.table({"id": [f"row-{r}" for r in rows], "text": [text_of(r) for r in rows]}, schema=schema))
    return path
