"""Detects quoted fields that look like rows: an unclosed quote extends to the next quote, and the text between becomes one long value.

If text follows that next quote, the row is quarantined. If a delimiter or a line end follows, the CSV is valid, and
only the value looks wrong: far longer than other rows, with lines that have as many delimiters as a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tasks.adapters.sources.text_files.csv_structure import CsvStructure

DOUBTFUL = (
    "quoted CSV fields that hold what looks like whole rows, each read as one value (if a quote there opens no field, double it, or set "
    "source.quote or source.escape)"
)
FAR_LONGER = 2  # times the length of the other rows, on average
ROW_LIKE = 0.8  # share of a field's lines after the first


def doubtful_fields(data: bytes | memoryview, structure: CsvStructure, *, rows: int, columns: int, delimiter: bytes) -> Iterator[int]:
    """Yield the positions where such fields open.

    Args:
        data: whole rows.
        structure: quotes of `data`.
        rows: number of rows.
        columns: number of columns in the header.
        delimiter: the delimiter.
    """
    closed = len(structure.edges) // 2
    opened, length = structure.edges[: 2 * closed : 2], np.diff(structure.edges)[::2][:closed]
    far = length * max(1, rows - 1) > FAR_LONGER * (len(data) - length)
    for at, size in zip(opened[far].tolist(), length[far].tolist(), strict=True) if columns > 1 else ():
        lines = [line for line in bytes(data[at + 1 : at + size]).splitlines()[1:] if line]
        is_row = at + size + 1 not in structure.torn  # a torn row is quarantined
        if is_row and len(lines) > 1 and sum(line.count(delimiter) == columns - 1 for line in lines) >= ROW_LIKE * len(lines):
            yield at
