"""Whether a source lies within a lakehouse table."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.files.access import list_files, root_of
from tasks.adapters.files.table_marks import table_of
from tasks.domain.errors import KitestringError
from tasks.domain.job.references import SCHEME

LOGS = {"_delta_log": (".json",), "metadata": (".metadata.json",), ".hoodie": (".properties",)}


def refuse_tables_above(uri: str) -> None:
    """Refuse a source whose folder, or one above it, is a table; tables below it are refused where they are listed.

    Raises:
        BadInput: it is; names the table's folder and the kind of source that reads it.
    """
    if uri.startswith(("http:", "https:")):
        return  # no folders are listed there
    for folder in _upwards(root_of(uri)):
        for log, suffixes in LOGS.items():
            name = _first(f"{folder}/{log}", suffixes)
            if name and (found := table_of(f"{folder}/{log}/{name}")):
                raise found[1]


def _upwards(root: str) -> Iterator[str]:
    """A folder and those above it; of a store, up to the bucket."""
    found = SCHEME.match(root)
    head = found[0] if found else ""
    rest = root.removeprefix(head).rstrip("/")
    while rest:
        yield head + rest
        rest = rest.rpartition("/")[0]


def _first(folder: str, suffixes: tuple[str, ...]) -> str | None:
    """The first file's name; None as well where nothing may be listed."""
    try:
        return next(list_files(folder, suffixes)).name
    except KitestringError:
        return None
