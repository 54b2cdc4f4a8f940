"""Columns that are folders, as Hive, Spark and Arrow write them: lang=de/part-0.parquet has the column `lang`."""

from __future__ import annotations

from urllib.parse import unquote

from tasks.domain.shards.shard import FileVersion

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(file: FileVersion) -> dict[str, str | None]:
    """The values that a file's folders below the source's root state, as texts; Hive's own word for null is None."""
    folders = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {unquote(column): None if value == NULL else unquote(value) for column, equals, value in folders if equals and column}
