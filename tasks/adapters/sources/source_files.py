"""What every kind of source is: files below a URI, cut into shards and read row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

import pyarrow as pa

from tasks.adapters.files.access import list_files
from tasks.adapters.files.left_out import EMPTY, LeftOut
from tasks.domain.job.source import SourceSettings
from tasks.domain.shards.shard import FileVersion, Shard, Span
from tasks.domain.target.fields import FieldType

Settings = TypeVar("Settings", bound=SourceSettings)


class SourceFiles(ABC, Generic[Settings]):
    """A source's files; nothing is read before it is asked. See `tasks.domain.ports.Source` for the promises.

    Args:
        config: the job's source.
        rows: what a shard aims at.
    """

    def __init__(self, config: Settings, *, rows: int) -> None:
        self.config, self.rows = config, rows
        self.left_out = LeftOut()

    @abstractmethod
    def inspect(self) -> dict[str, FieldType]: ...

    @abstractmethod
    def spans(self) -> Iterator[Span]: ...

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]: ...

    def files(self, suffixes: tuple[str, ...]) -> Iterator[FileVersion]:
        """Every file, as `list_files`; what is there and not read is counted anew in `left_out`."""
        self.left_out = LeftOut()
        return list_files(self.config.uri, suffixes, self.left_out)

    def is_read(self, file: FileVersion, rows: int, reason: str = EMPTY) -> bool:
        """Whether a file has rows; one that has none is counted."""
        if not rows:
            self.left_out.add(reason, file.name)
        return rows > 0

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        """Rows at the beginning of a file whose spans do not tell how many it has, and how many of its bytes those take.

        Args:
            file: that can only be read from its beginning.
            seen: rows that have been read of it.
            read: bytes of those, unpacked.
        """
        return seen, min(file.size, read)
