"""Finds an Iceberg table's current metadata: from its catalog, a named file, or the newest file in its folder."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tasks.adapters.files.access import list_files, open_file
from tasks.adapters.files.fsspec_files import first_words
from tasks.adapters.sources.lake.table_location import imported, plain_place, s3_settings, unreadable, written_place
from tasks.domain.errors import BadInput, KitestringError

if TYPE_CHECKING:
    from pyiceberg.table import Table

METADATA_JSON = ".metadata.json"
HINT = "version-hint.text"
IO_NAMES = {
    "endpoint": "s3.endpoint",
    "region": "s3.region",
    "access": "s3.access-key-id",
    "secret": "s3.secret-access-key",
    "token": "s3.session-token",
}
_NUMBER = re.compile(r"v?(\d+)[-.]")


def open_table(uri: str, catalog: str | None) -> Table:
    """Open a table in its current state.

    Args:
        uri: its folder or metadata file; with a catalog, its name there.
        catalog: its name in pyiceberg's own configuration (.pyiceberg.yaml, PYICEBERG_CATALOG__*).

    Raises:
        BadInput: there is no such table, or it cannot be read.
        Transient: the catalog or the store does not respond.
    """
    table: Any = imported("pyiceberg.table", "iceberg")
    try:
        return _of_catalog(uri, catalog) if catalog else table.StaticTable.from_metadata(current_metadata(uri), _io_settings(uri))
    except KitestringError:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"there is no Iceberg table in '{uri}': correct source.uri") from error
    except OSError as error:
        raise unreadable(f"Iceberg table '{uri}'", error) from error
    except Exception as error:  # pyiceberg's errors have no common base, and catalogs raise those of their clients
        raise BadInput(f"Iceberg table '{uri}' cannot be read: {first_words(error)}") from error


def _of_catalog(name: str, catalog: str) -> Table:
    catalogs: Any = imported("pyiceberg.catalog", "iceberg")
    io: Any = imported("pyiceberg.io", "iceberg")
    table: Table = catalogs.load_catalog(catalog).load_table(name)
    table.io = io.load_file_io({**_io_settings(table.location()), **table.io.properties}, table.metadata_location)
    return table


def current_metadata(uri: str) -> str:
    """Return the current metadata file of a table's folder: the one in its hint file, else the highest number; a named file is returned as is.

    Raises:
        BadInput: there is none, or two files have the highest number, one of which may be uncommitted.
    """
    place = plain_place(uri)
    if place.endswith(METADATA_JSON):
        return place
    folder = f"{place}/metadata"
    names = [file.name for file in list_files(folder, (METADATA_JSON, HINT)) if "/" not in file.name]
    if HINT in names:
        return f"{folder}/{_hinted(folder)}"
    by_number: dict[int, list[str]] = defaultdict(list)
    for name in names:
        if number := _NUMBER.match(name):
            by_number[int(number[1])].append(name)
    if not by_number:
        raise BadInput(f"there is no Iceberg table in '{place}' (no metadata/*{METADATA_JSON}): correct source.uri")
    newest = by_number[max(by_number)]
    if len(newest) > 1:
        raise BadInput(f"'{folder}' has two newest metadata files, {' and '.join(sorted(newest)[:2])}: set source.catalog, or name one")
    return f"{folder}/{newest[0]}"


def _hinted(folder: str) -> str:
    with closing(open_file(f"{folder}/{HINT}")) as opened:
        hint = opened.read().decode().strip()
    return hint if hint.endswith(METADATA_JSON) else f"{'v' * hint.isnumeric()}{hint}{METADATA_JSON}"


def _io_settings(uri: str) -> dict[str, str]:
    """Return settings with which pyarrow reads manifests, with the same credentials as every other source."""
    settings = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if not written_place(uri).startswith("s3:"):
        return settings
    return settings | s3_settings(IO_NAMES)
