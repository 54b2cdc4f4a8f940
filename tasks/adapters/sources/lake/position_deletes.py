"""Reads an Iceberg table's position deletes: from Parquet files of (file, position), or from deletion vectors."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.adapters.files.access import open_file, reading
from tasks.adapters.sources.lake.table_files import NO_ROWS, Positions
from tasks.adapters.sources.lake.table_location import imported, written_place
from tasks.domain.errors import BadInput

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile

FILES_KEPT = 16  # a delete file may cover many data files


def deleted_rows(data_file: str, deletes: Iterable[DataFile]) -> Positions:
    """Return the positions of a data file's deleted rows.

    Args:
        data_file: its path as in the table's metadata.
        deletes: delete files that may apply.
    """
    positions = [_by_file(file.file_path, file.file_format.value).get(data_file, NO_ROWS) for file in deletes]
    return np.unique(np.concatenate([NO_ROWS, *positions]))


@lru_cache(maxsize=FILES_KEPT)
def _by_file(path: str, file_format: str) -> dict[str, Positions]:
    """Return positions by data file, cached by path: delete files are immutable."""
    place = written_place(path)
    with reading(place, "file of deleted rows"):
        if file_format == "PARQUET":
            return _of_parquet(place)
        if file_format == "PUFFIN":
            return _of_vectors(place)
    raise BadInput(f"{place} has deleted rows in {file_format}, which is not supported: compact the table")


def _of_parquet(place: str) -> dict[str, Positions]:
    with closing(pq.ParquetFile(open_file(place))) as parquet:
        table = parquet.read(columns=["file_path", "pos"])
    paths = table.column("file_path").cast(pa.string()).combine_chunks().dictionary_encode()
    positions, codes = table.column("pos").to_numpy(), paths.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(paths.dictionary) + 1))
    return {path: positions[order[ends[at] : ends[at + 1]]] for at, path in enumerate(paths.dictionary.to_pylist())}


def _of_vectors(place: str) -> dict[str, Positions]:
    vectors: Any = imported("pyiceberg.table.deletion_vector", "iceberg")
    puffin: Any = imported("pyiceberg.table.puffin", "iceberg")
    with closing(open_file(place)) as opened:
        deletion_vectors = vectors.deletion_vectors_from_puffin_file(puffin.PuffinFile(opened.read()))
    return {vector.referenced_data_file: pc.cast(vector.to_vector(), pa.int64()).to_numpy() for vector in deletion_vectors}
