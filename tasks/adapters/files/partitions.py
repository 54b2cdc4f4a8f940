"""Columns that are folders, as Hive, Spark and Arrow write them: lang=de/part-0.parquet has the column `lang`."""

from __future__ import annotations

from urllib.parse import unquote

from tasks.domain.shards.shard import FileVersion

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(file: FileVersion) -> dict[str, str | None]:
    """The values that a file's folders below the source's root state, as texts; Hive's own word for null is None."""
    folders = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {unquote(column): None if value == NULL else unquote(value) for column, equals, value in folders if equals and column}


def folder_named(column: str, uri: str) -> str | None:
    """The folder above the one that a URI itself ends in or leads through and that states a column: for who reads the URI, it is none."""
    parts = uri.split("/")
    at = next((at for at, part in enumerate(parts) if unquote(part.partition("=")[0]) == column and "=" in part), None)
    return None if at is None else "/".join(parts[:at]) or "."
