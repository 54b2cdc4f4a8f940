"""Lakehouse tables, known by the names that stand in their folders.

The Parquet files of such a table are not its rows: files that were rewritten and rows that were deleted stay in the folder
until it is vacuumed, and only the table's log says which are live.
"""

from __future__ import annotations

import re

from tasks.domain.errors import BadInput

_MARKS = {
    re.compile(r"(?:(.*)/)?_delta_log(?:/.*)?"): ("Delta", "delta"),
    re.compile(r"(?:(.*)/)?metadata/[^/]+\.metadata\.json"): ("Iceberg", "iceberg"),
    re.compile(r"(?:(.*)/)?\.hoodie(?:/.*)?"): ("Hudi", None),
}


class IsATable(BadInput):
    """Parquet files of a lakehouse table were to be read as they are. `folder`: the table's; `kind`: of the source that reads it, if any does."""

    def __init__(self, message: str, *, folder: str, kind: str | None) -> None:
        super().__init__(message)
        self.folder, self.kind = folder, kind


def table_of(name: str) -> tuple[str, IsATable] | None:
    """The folder of the table whose log a file or folder belongs to, and why it is not read as plain Parquet.

    Args:
        name: below the source's root, or in full.
    """
    for pattern, (words, kind) in _MARKS.items():
        if found := pattern.fullmatch(name):
            folder = found[1] or ""
            return folder, _refusal(folder or ".", words, kind)
    return None


def _refusal(folder: str, words: str, kind: str | None) -> IsATable:
    cure = f"set source.kind: {kind} and the table's folder as source.uri" if kind else "export its current rows and read those"
    message = f"'{folder}' is a {words} table, and its Parquet files also hold rows that were deleted from it: {cure}"
    return IsATable(message, folder=folder, kind=kind)
