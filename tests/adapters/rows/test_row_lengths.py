"""Lengths of rows travel as a column and are kept as a line of a part's file; what nobody knows, or is damaged, stays unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.adapters.checkpoint.part_files import LENGTHS_META, PartMeta, lengths_in, read_part, write_part
from tasks.adapters.rows.row_lengths import as_column, lengths_column, stats_of_lengths, with_lengths
from tests.builders.checkpoints import make_table

ROWS = 30
META = PartMeta(shard="s", first=0, stop=ROWS)


def stored(folder: Path, table: pa.Table) -> pa.Table:
    write_part(folder / "part", table, META)
    return read_part((folder / "part").read_bytes())[0]


def test_a_part_keeps_the_lengths_of_its_rows_and_has_no_column_more(tmp_path: Path) -> None:
    table = make_table(ROWS)
    lengths = np.stack([np.arange(ROWS), np.arange(ROWS) % 3], axis=1).astype(np.int32)
    lengths[7] = -1
    read = stored(tmp_path, with_lengths(table, as_column(lengths)))
    assert read.equals(table)
    found = lengths_in(read)
    assert found is not None
    assert found.tolist() == [[-1, -1] if row == 7 else [row, row % 3] for row in range(ROWS)]


def test_a_part_of_an_older_version_or_with_other_rows_has_none(tmp_path: Path) -> None:
    table = make_table(ROWS)
    assert lengths_in(stored(tmp_path, table)) is None
    assert lengths_in(stored(tmp_path, with_lengths(table, None))) is None
    read = stored(tmp_path, with_lengths(table, lengths_column([1] * ROWS, [0] * ROWS)))
    assert lengths_in(read.slice(1)) is None
    assert lengths_in(read.replace_schema_metadata({LENGTHS_META: b"%%"})) is None


def test_what_is_told_of_rows_is_told_of_those_alone_whose_lengths_are_known() -> None:
    table = with_lengths(make_table(4), as_column(np.array([[5, 0], [-1, -1], [16, 3], [16, 1]], np.int32)))
    stats = stats_of_lengths(table)
    assert (stats.truncated, stats.tokens_cut, stats.lengths, stats.tokens) == (2, 4, {8: 1, 16: 2}, 0)
    assert not stats_of_lengths(make_table(4)).lengths
