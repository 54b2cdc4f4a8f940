"""Base of all sources: files below a URI, cut into shards and read row by row."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

import pyarrow as pa

from tasks.adapters.files.access import NothingToRead, list_files, root_of
from tasks.adapters.files.left_out import EMPTY, OWN, LeftOut
from tasks.adapters.files.local_files import is_local, local_path
from tasks.adapters.files.partitions import folder_named, partitions_of
from tasks.adapters.files.tables.spark_sink import NOT_COMMITTED, committed_files
from tasks.adapters.rows.column_types import check_columns
from tasks.adapters.rows.inferred_types import TypeSurvey, type_of_strings
from tasks.domain.job.source import SourceSettings
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.layout import is_layout_key
from tasks.domain.shards.removal import is_below
from tasks.domain.shards.shard import FileVersion, Shard, Span
from tasks.domain.target.fields import FieldType

Settings = TypeVar("Settings", bound=SourceSettings)
SAMPLED_FILES = 64  # spread over the listing, to infer column types from
SAMPLED_BYTES = 16 << 20  # of all of them together
LITE_SUFFIX = ".db"  # suffix of a Milvus Lite file
FOLDER_VALUES = 10_000  # distinct values of a partition column to look at


class SourceFiles(ABC, Generic[Settings]):
    """A source's files, read lazily. See `tasks.domain.ports.Source` for the contract.

    Args:
        config: the job's source.
        rows: target size of a shard.
    """

    sampled = True  # whether types are inferred from a sample, which may lack a column

    def __init__(self, config: Settings, *, rows: int) -> None:
        self.config, self.rows = config, rows
        self.own: tuple[str, ...] = ()  # paths and URIs of the checkpoint and the collection, whose files are left out of listings
        self.left_out, self.found = LeftOut(), Findings()  # of the last listing: skipped files, other observations
        self.notes: list[str] = []  # notes of `inspect` for the user
        self._inspected = set[str]()  # columns whose types `inspect` determined

    @property
    def root(self) -> str:
        """The root of the files: an absolute path or a URI."""
        return root_of(self.config.uri)

    def inspect(self, wanted: Collection[str] | None = None) -> dict[str, FieldType]:
        self._inspected.update(wanted or ())
        return self.survey(wanted).resolve(self.config.uri, self.notes, sampled=self.sampled)

    @abstractmethod
    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        """Inspect the first file and, if columns are wanted, enough other files to infer their types; see `inspect`."""

    def types_now(self, columns: Collection[str]) -> ColumnSurvey:
        """Survey the current types of columns with known types, except those just inspected; called after `spans`, which may have seen them."""
        known = [column for column in columns if column not in self._inspected]
        return self.survey(known) if known else ColumnSurvey(())

    @abstractmethod
    def spans(self) -> Iterator[Span]: ...

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]: ...

    def files(self, suffixes: tuple[str, ...]) -> Iterator[FileVersion]:
        """List files like `list_files`, without those missing in Spark's log; resets `left_out` and `found`."""
        self.left_out, self.found = LeftOut(), Findings()
        committed = committed_files(self.config.uri)
        listed = self.listed(suffixes, self.left_out)
        return listed if committed is None else (file for file in listed if self._is_committed(file, committed))

    def listed(self, suffixes: tuple[str, ...], left_out: LeftOut | None = None) -> Iterator[FileVersion]:
        """Every file, as `list_files`, less what Kitestring itself has written below the same folder: its files look like those of a source."""
        listed, own = list_files(self.config.uri, suffixes, left_out), self._own_places()
        if not own:
            return listed
        others = (file for file in listed if not _is_own(file, own, left_out))
        first = next(others, None)
        if first is None:
            raise NothingToRead(f"nothing to read in '{self.config.uri}': all its files are of the job's checkpoint or Milvus Lite file")
        return chain([first], others)

    def _own_places(self) -> list[str]:
        """Those at or below the source's root."""
        places = (local_path(place) if is_local(place) else place.rstrip("/") for place in self.own)
        return [place for place in places if is_below(place, self.root)]

    def first(self, suffixes: tuple[str, ...]) -> FileVersion:
        """The first file that is not empty; the first of all where every one is."""
        files = self.listed(suffixes)
        first = next(files)
        return first if first.size else next((file for file in files if file.size), first)

    def _is_committed(self, file: FileVersion, committed: Container[str]) -> bool:
        is_committed = posixpath.basename(file.name) in committed
        if not is_committed:
            self.left_out.add(NOT_COMMITTED, file.name)
        return is_committed

    def is_read(self, file: FileVersion, rows: int, reason: str = EMPTY) -> bool:
        """Return whether a file has rows; counts it as skipped otherwise."""
        if not rows:
            self.left_out.add(reason, file.name)
        return rows > 0

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        """Return the rows at the beginning of a file without a row count, and the number of its bytes that they occupy.

        Args:
            file: a file that can only be read from its beginning.
            seen: rows read so far.
            read: bytes of those rows, uncompressed.
        """
        return seen, min(file.size, read)


def _is_own(file: FileVersion, places: Iterable[str], left_out: LeftOut | None) -> bool:
    """Whether a file is in a Milvus Lite file, or in a checkpoint under a key that Kitestring gives."""
    for place in places:
        if is_below(file.path, place) and (place.endswith(LITE_SUFFIX) or is_layout_key(file.path.removeprefix(place).lstrip("/"))):
            if left_out:
                left_out.add(OWN, file.name)
            return True
    return False


class ColumnSurvey(TypeSurvey):
    """Types of columns over the files of a source. `wanted`: names of the columns; None: all."""

    def __init__(self, wanted: Collection[str] | None) -> None:
        super().__init__()
        self.wanted = wanted
        self.present: dict[str, None] = {}  # every column, in order
        self._folders: dict[str, set[str | None]] = {}

    def wants(self, column: str) -> bool:
        """Record an existing column, and return whether its type is wanted."""
        self.present.setdefault(column)
        return self.wanted is None or column in self.wanted

    def listed(self, files: Iterable[FileVersion]) -> Iterator[FileVersion]:
        """Yield the files, and record the partition columns in their folders."""
        for file in files:
            for column, value in partitions_of(file).items():
                values = self._folders.setdefault(column, set())
                if self.wants(column) and len(values) < FOLDER_VALUES:
                    values.add(value)
            yield file

    def resolve(self, uri: str, notes: list[str], *, sampled: bool) -> dict[str, FieldType]:
        """Return the types; appends notes about them to `notes`.

        Raises:
            BadInput: a wanted column is missing. `sampled`: not all files were read, so a declared type would help.
        """
        for column, values in self._folders.items():
            if self.wants(column):
                self.add(column, type_of_strings(pa.array(list(values), pa.string())), "the names of folders")
        present = list(self.present)
        cure = "; if it occurs later, set source.types: {%s: text}, or another type" if sampled else ""
        if above := next(filter(None, (folder_named(column, uri) for column in self.wanted or () if column not in present)), None):
            cure = f"; a folder of source.uri is no column: give '{above}', the parent of all its folders, or a glob from there on"
        check_columns(self.wanted or (), present, uri, cure=cure)
        columns = present if self.wanted is None else list(self.wanted)
        notes += [note for column in columns if (note := self.note(column))]
        return {column: self.type_of(column) for column in columns}


def spread(files: Iterable[FileVersion], most: int = SAMPLED_FILES) -> list[FileVersion]:
    """Return up to about `most` non-empty files, evenly spaced, including the first and the last."""
    chosen: list[FileVersion] = []
    step, last = 1, None
    for number, file in enumerate(file for file in files if file.size):
        last = file
        if number % step == 0:
            chosen.append(file)
            if len(chosen) == most:
                chosen, step = chosen[::2], 2 * step
    return chosen if last is None or last == chosen[-1] else [*chosen, last]
