"""What is encoded: passages of the standard library's documentation, and short rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.stdlib_docs import passages
from tests.flows.kitestring import text_of

ROW_GROUP = 250


def write_passages(path: Path, count: int) -> Path:
    """A Parquet file with so many passages, taken evenly from all of them: their lengths are as skewed as in the whole."""
    found = list(passages())
    chosen = [found[at * len(found) // count] for at in range(min(count, len(found)))]
    columns = {"id": [p.id for p in chosen], "text": [p.text for p in chosen], "module": [p.module for p in chosen]}
    pq.write_table(pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()}), path, row_group_size=ROW_GROUP)
    return path


def write_short_rows(path: Path, count: int, *, row_group: int = 5_000) -> Path:
    """A Parquet file of texts of 3 to 40 words; holds one row group in memory."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as file:
        for first in range(0, count, row_group):
            rows = range(first, min(first + row_group, count))
            file.write_table(pa.table({"id": [f"row-{r}" for r in rows], "text": [text_of(r) for r in rows]}, schema=schema))
    return path
