"""What every kind of source is: files below a URI, cut into shards and read row by row."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator
from typing import Generic, TypeVar

import pyarrow as pa

from tasks.adapters.files.access import list_files, root_of
from tasks.adapters.files.left_out import EMPTY, LeftOut
from tasks.adapters.files.partitions import folder_named, partitions_of
from tasks.adapters.files.tables.spark_sink import NOT_COMMITTED, committed_files
from tasks.adapters.rows.column_types import check_columns
from tasks.adapters.rows.inferred_types import TypeSurvey, type_of_strings
from tasks.domain.job.source import SourceSettings
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.shard import FileVersion, Shard, Span
from tasks.domain.target.fields import FieldType

Settings = TypeVar("Settings", bound=SourceSettings)
SAMPLED_FILES = 64  # spread over the listing, from whose values column types are inferred
SAMPLED_BYTES = 16 << 20  # of all those together
FOLDER_VALUES = 10_000  # of a column of folders that are looked at


class SourceFiles(ABC, Generic[Settings]):
    """A source's files; nothing is read before it is asked. See `tasks.domain.ports.Source` for the promises.

    Args:
        config: the job's source.
        rows: what a shard aims at.
    """

    sampled = True  # whether types are inferred from a sample, which may lack a column

    def __init__(self, config: Settings, *, rows: int) -> None:
        self.config, self.rows = config, rows
        self.left_out, self.found = LeftOut(), Findings()  # of the last listing: files that are not read, other observations
        self.notes: list[str] = []  # findings of `inspect` for the user
        self._inspected = set[str]()  # columns whose types it found

    @property
    def root(self) -> str:
        """What its own files are below: an absolute path or a URI."""
        return root_of(self.config.uri)

    def inspect(self, wanted: Collection[str] | None = None) -> dict[str, FieldType]:
        self._inspected.update(wanted or ())
        return self.survey(wanted).settle(self.config.uri, self.notes, sampled=self.sampled)

    @abstractmethod
    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        """Inspect the first file, and where columns are wanted enough of the others to infer their types; as `inspect`."""

    def types_now(self, columns: Collection[str]) -> ColumnSurvey:
        """What columns hold whose types are known from before; asked after `spans`, which may have seen it. Those just inspected are left out."""
        known = [column for column in columns if column not in self._inspected]
        return self.survey(known) if known else ColumnSurvey(())

    @abstractmethod
    def spans(self) -> Iterator[Span]: ...

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]: ...

    def files(self, suffixes: tuple[str, ...]) -> Iterator[FileVersion]:
        """Every file, as `list_files`, less what Spark's log does not have; `left_out` and `found` start anew."""
        self.left_out, self.found = LeftOut(), Findings()
        committed = committed_files(self.config.uri)
        listed = list_files(self.config.uri, suffixes, self.left_out)
        return listed if committed is None else (file for file in listed if self._is_committed(file, committed))

    def _is_committed(self, file: FileVersion, committed: Container[str]) -> bool:
        there = posixpath.basename(file.name) in committed
        if not there:
            self.left_out.add(NOT_COMMITTED, file.name)
        return there

    def is_read(self, file: FileVersion, rows: int, reason: str = EMPTY) -> bool:
        """Whether a file has rows; one that has none is counted."""
        if not rows:
            self.left_out.add(reason, file.name)
        return rows > 0

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        """Rows at the beginning of a file without a row count, and how many of its bytes they take.

        Args:
            file: that can only be read from its beginning.
            seen: rows that have been read of it.
            read: bytes of those, unpacked.
        """
        return seen, min(file.size, read)


class ColumnSurvey(TypeSurvey):
    """Types of some columns over the files of a source. `wanted`: their names; None: all."""

    def __init__(self, wanted: Collection[str] | None) -> None:
        super().__init__()
        self.wanted = wanted
        self.there: dict[str, None] = {}  # every column, in order
        self._folders: dict[str, set[str | None]] = {}

    def wants(self, column: str) -> bool:
        """Whether the type of a column that is there is asked for."""
        self.there.setdefault(column)
        return self.wanted is None or column in self.wanted

    def listed(self, files: Iterable[FileVersion]) -> Iterator[FileVersion]:
        """Pass files on, and take in the columns that their folders state."""
        for file in files:
            for column, value in partitions_of(file).items():
                values = self._folders.setdefault(column, set())
                if self.wants(column) and len(values) < FOLDER_VALUES:
                    values.add(value)
            yield file

    def settle(self, uri: str, notes: list[str], *, sampled: bool) -> dict[str, FieldType]:
        """The types; what there is to say of them goes to `notes`.

        Raises:
            BadInput: a wanted column is nowhere. `sampled`: not all was looked at, so that a declared type would do.
        """
        for column, values in self._folders.items():
            if self.wants(column):
                self.add(column, type_of_strings(pa.array(list(values), pa.string())), "the names of folders")
        there = list(self.there)
        cure = "; if it comes later, set source.types: {%s: text}, or what it is" if sampled else ""
        if above := next(filter(None, (folder_named(column, uri) for column in self.wanted or () if column not in there)), None):
            cure = f"; a folder of source.uri is no column: give '{above}', which all of its folders are below, or a glob from there on"
        check_columns(self.wanted or (), there, uri, cure=cure)
        columns = there if self.wanted is None else list(self.wanted)
        notes += [note for column in columns if (note := self.note(column))]
        return {column: self.type_of(column) for column in columns}


def spread(files: Iterable[FileVersion], most: int = SAMPLED_FILES) -> list[FileVersion]:
    """Up to about `most` files that have something in them, at equal distances, the first and the last among them."""
    kept: list[FileVersion] = []
    step, last = 1, None
    for number, file in enumerate(file for file in files if file.size):
        last = file
        if number % step == 0:
            kept.append(file)
            if len(kept) == most:
                kept, step = kept[::2], 2 * step
    return kept if last is None or last == kept[-1] else [*kept, last]
