"""A kind of source that Kitestring does not have: text files whose lines are rows. This file and a line in the registry are all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Literal

import pyarrow as pa
from pydantic import ConfigDict, Field

from tasks.adapters.files.access import guard_unchanged, list_files, open_plain, reading, require_rows
from tasks.adapters.rows.row_schema import KEY_COLUMN, TEXT_COLUMN
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.domain.job.source import Modality, SourceKind, SourceSettings
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

SUFFIXES = (".txt",)


class LinesSource(SourceSettings):
    """Files of lines; a row's key is its file's name and its number."""

    model_config = ConfigDict(title="Lines")

    kind: Literal["lines"] = "lines"
    uri: str = "texts"
    skip: int = Field(0, ge=0, description="Lines at the head of each file that are no rows.")

    @property
    def modality(self) -> Modality:
        return "text"


class LinesFiles(SourceFiles[LinesSource]):
    """Text files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        next(list_files(self.config.uri, SUFFIXES))
        return ColumnSurvey(wanted)

    def spans(self) -> Iterator[Span]:
        files = list_files(self.config.uri, SUFFIXES)
        return require_rows((Span(files=(file,), extent=Whole(), rows=None) for file in files), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, self._batches(shard.span.files[0]))

    def _batches(self, file: FileVersion) -> Iterator[pa.RecordBatch]:
        with reading(file.path, "text file"), closing(open_plain(file.path)) as opened:
            lines = opened.read().decode().splitlines()[self.config.skip :]
        keys = [f"{file.name}:{number}" for number in range(len(lines))]
        yield pa.record_batch([pa.array(keys, pa.string()), pa.array(lines, pa.string())], names=[KEY_COLUMN, TEXT_COLUMN])


LINES = SourceKind(settings=LinesSource, files=f"{__name__}:LinesFiles")
