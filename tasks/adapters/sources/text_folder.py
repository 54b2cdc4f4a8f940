"""A folder of text files: a row is a file, its key the path relative to the folder, its text the content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import ConfigDict, Field, model_validator

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import guard_unchanged, open_file, reading, require_rows
from tasks.adapters.files.compression import CONTENT_HEAD_BYTES, is_text, kind_of
from tasks.adapters.rows.row_schema import KEY_COLUMN, REASON_COLUMN, TEXT_COLUMN, VALID_TEXT
from tasks.adapters.sources.images import group_files
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.adapters.sources.text_files.line_reader import BOM, LINE_NOT_UTF8, LONGEST_ROW_BYTES
from tasks.domain.job.credentials import PLACE
from tasks.domain.job.source import MOVED_FROM, FileLocation, Modality, SourceKind, SourceSettings, check_declared
from tasks.domain.job.texts.chunks import CHUNKS, ChunkSettings
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

MARKDOWN = (".md", ".markdown")
SUFFIXES = (".txt", *MARKDOWN, ".rst", ".text")
BATCH_ROWS = 1_024
BATCH_BYTES = 32 << 20
TOO_LARGE = f"too large: a file of more than {LONGEST_ROW_BYTES} bytes"
TEXT_ROWS = pa.schema(
    [pa.field(KEY_COLUMN, pa.string()), pa.field(TEXT_COLUMN, pa.string(), metadata=VALID_TEXT), pa.field(REASON_COLUMN, pa.string())]
)

Suffix = Annotated[str, Field(title="suffix", pattern=r"^\.[^/\\*?]+$")]


class TextFilesSource(SourceSettings):
    """A folder of text or Markdown files in UTF-8, searched recursively; a file is a row, its path relative to the folder the key."""

    model_config = ConfigDict(title="Text files")
    locating: ClassVar[frozenset[str]] = SourceSettings.locating | {"suffixes"}

    kind: Literal["text-files"] = Field("text-files", description="Text or Markdown files in a folder.")
    uri: str = Field(
        "docs",
        title="Folder",
        description="A folder, a file or a glob; a path or URI. Files that are empty, not UTF-8 or larger than 16 MiB are quarantined.",
        json_schema_extra=PLACE,
    )
    moved_from: FileLocation | Nothing = MOVED_FROM
    suffixes: list[Suffix] = Field(
        list(SUFFIXES),
        min_length=1,
        title="Suffixes",
        description="Suffixes of the files to read, in any case. A glob that includes a suffix (docs/**/*.log) needs none.",
    )
    chunks: ChunkSettings = CHUNKS

    @model_validator(mode="after")
    def _chunks_of_texts(self) -> TextFilesSource:
        check_declared(self)
        return self

    @property
    def modality(self) -> Modality:
        return "text"

    @property
    def ends(self) -> tuple[str, ...]:
        """The suffixes in lower case."""
        return tuple(suffix.lower() for suffix in self.suffixes)


class TextFiles(SourceFiles[TextFilesSource]):
    """Text files below a URI; cut into shards like images, so that an added file changes only one shard."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        next(self.listed(self.config.ends))
        return ColumnSurvey(wanted)

    def spans(self) -> Iterator[Span]:
        groups = group_files(self.files(self.config.ends), self.rows)
        return require_rows((Span(files=tuple(group), extent=Whole(), rows=len(group)) for group in groups), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, _batches(shard.span.files))


def _batches(files: Iterable[FileVersion]) -> Iterator[pa.RecordBatch]:
    for group in _batched_by_bytes(files):
        texts, reasons = zip(*ahead(_text_of, group), strict=True)
        columns = [[file.name for file in group], texts, reasons]
        yield pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=TEXT_ROWS)


def _batched_by_bytes(files: Iterable[FileVersion]) -> Iterator[list[FileVersion]]:
    """Group files that fit into memory together."""
    batch: list[FileVersion] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_ROWS or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += min(file.size, LONGEST_ROW_BYTES)
    if batch:
        yield batch


def _text_of(file: FileVersion) -> tuple[str | None, str | None]:
    """Return a file's text, or why it cannot be embedded; an empty file has an empty text, like an empty column."""
    if file.size > LONGEST_ROW_BYTES:
        return None, TOO_LARGE
    with reading(file.path, "text file"), closing(open_file(file.path)) as opened:
        data = opened.read(LONGEST_ROW_BYTES + 1)  # some stores do not report sizes
    return (None, TOO_LARGE) if len(data) > LONGEST_ROW_BYTES else _decoded(data)


def _decoded(data: bytes) -> tuple[str | None, str | None]:
    head = data[:CONTENT_HEAD_BYTES]
    other = None if is_text(head) else kind_of(head)  # UTF-16 without a byte order mark may decode as UTF-8
    if other is not None:
        return None, _not_utf8(f"the file is {other}")
    try:
        return data.removeprefix(BOM).decode(), None
    except UnicodeDecodeError as error:
        return None, _not_utf8(f"byte {error.start} of the file")


def _not_utf8(problem: str) -> str:
    return f"{LINE_NOT_UTF8}: {problem}: convert it to text in UTF-8"


TEXT_FILES = SourceKind(settings=TextFilesSource, files=f"{__name__}:TextFiles")
