"""Recognises lakehouse tables by the names in their folders.

The Parquet files of such a table are not its rows: rewritten files and deleted rows stay in the folder
until it is vacuumed, and only the table's log names the live ones.
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
    """A source would read Parquet files of a lakehouse table. `folder`: the table's; `kind`: kind of source that reads it, or None."""

    def __init__(self, message: str, *, folder: str, kind: str | None) -> None:
        super().__init__(message)
        self.folder, self.kind = folder, kind


def table_of(name: str) -> tuple[str, IsATable] | None:
    """Return the folder of the table whose log contains this file or folder, and the error; None if there is no table.

    Args:
        name: relative to the source's root, or absolute.
    """
    for pattern, (label, kind) in _MARKS.items():
        if match := pattern.fullmatch(name):
            folder = match[1] or ""
            return folder, _refusal(folder or ".", label, kind)
    return None


def _refusal(folder: str, label: str, kind: str | None) -> IsATable:
    cure = f"set source.kind: {kind} and the table's folder as source.uri" if kind else "export its current rows and read those"
    message = f"'{folder}' is a {label} table, and its Parquet files also hold rows that were deleted from it: {cure}"
    return IsATable(message, folder=folder, kind=kind)
