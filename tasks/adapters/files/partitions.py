"""Partition columns in folder names, as written by Hive, Spark and Arrow: lang=de/part-0.parquet has the column `lang`."""

from __future__ import annotations

from urllib.parse import unquote

from tasks.domain.shards.shard import FileVersion

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(file: FileVersion) -> dict[str, str | None]:
    """Return the values in the names of a file's folders below the source's root, as texts; Hive's null marker becomes None."""
    folders = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {unquote(column): None if value == NULL else unquote(value) for column, equals, value in folders if equals and column}


def folder_named(column: str, uri: str) -> str | None:
    """Return the parent of the folder in a URI that sets a column, or None: reading that URI, the column is not a partition."""
    parts = uri.split("/")
    at = next((at for at, part in enumerate(parts) if unquote(part.partition("=")[0]) == column and "=" in part), None)
    return None if at is None else "/".join(parts[:at]) or "."
