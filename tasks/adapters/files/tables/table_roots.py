"""Detects sources inside a lakehouse table."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.files.access import list_files, root_of
from tasks.adapters.files.table_marks import table_of
from tasks.domain.errors import KitestringError
from tasks.domain.job.references import SCHEME

LOGS = {"_delta_log": (".json",), "metadata": (".metadata.json",), ".hoodie": (".properties",)}


def refuse_tables_above(uri: str) -> None:
    """Refuse a source whose folder or a parent is a table; tables below it are refused when they are listed.

    Raises:
        BadInput: there is a table; names its folder and the kind of source that reads it.
    """
    if uri.startswith(("http:", "https:")):
        return  # web servers list no folders
    for folder in _upwards(root_of(uri)):
        for log, suffixes in LOGS.items():
            name = _first(f"{folder}/{log}", suffixes)
            if name and (table := table_of(f"{folder}/{log}/{name}")):
                raise table[1]


def _upwards(root: str) -> Iterator[str]:
    """Yield a folder and its parents; in a store, up to the bucket."""
    scheme = SCHEME.match(root)
    head = scheme[0] if scheme else ""
    rest = root.removeprefix(head).rstrip("/")
    while rest:
        yield head + rest
        rest = rest.rpartition("/")[0]


def _first(folder: str, suffixes: tuple[str, ...]) -> str | None:
    """Return the first file's name; None if there is none or listing is not permitted."""
    try:
        return next(list_files(folder, suffixes)).name
    except KitestringError:
        return None
