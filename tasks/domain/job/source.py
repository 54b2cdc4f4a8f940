"""The `source` of a job: the files and columns of the rows, and the registry of its kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from tasks.domain.job.credentials import PLACE
from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.job.metadata import (
    METADATA_DESCRIPTION,
    TYPES_DESCRIPTION,
    ColumnNames,
    ColumnType,
    DeclaredType,
    Metadata,
    NamedColumns,
    named_metadata,
)
from tasks.domain.job.references import Reference
from tasks.domain.job.texts.chunks import CHUNKS, Chunks, ChunkSettings, check_chunks
from tasks.domain.job.texts.text_format import DELIMITER, ENCODING, ESCAPE, QUOTE, Encoding, QuoteCharacter
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import ADDED_LATER, Strict

Modality = Literal["text", "image"]


ColumnName = Annotated[str, Field(title="column")]
FileLocation = Annotated[str, Field(title="location", json_schema_extra=PLACE)]
TYPES: dict[str, ColumnType] = Field(default_factory=dict, title="Types", description=TYPES_DESCRIPTION)
MOVED_FROM: str | None = Field(
    None,
    title="Moved from",
    description="Previous location of the same files (a folder, bucket or glob), which were moved, copied or mounted elsewhere. They keep their vectors, "
    "and their rows are replaced instead of added a second time. A run notes it: the setting may be removed afterwards.",
)


class SourceSettings(Strict):
    """Common settings and properties of all kinds of sources.

    `locating`: the settings that define where rows are read, not how they are made; digests exclude them.
    """

    locating: ClassVar[frozenset[str]] = frozenset({"uri", "moved_from", "references"})

    kind: str
    uri: str
    moved_from: str | None = MOVED_FROM

    @property
    def modality(self) -> Modality:
        """The modality of its rows."""
        raise NotImplementedError

    @property
    def states_modality(self) -> bool:
        """Whether the job states the modality, instead of using the default."""
        return True

    @property
    def named(self) -> NamedColumns | None:
        """The key and content columns in the job; None: batches name them as `tasks.adapters.rows.row_schema` does."""
        return None

    @property
    def scalars(self) -> list[str]:
        """Columns that are stored in the collection beside the content."""
        return list(self.metadata_as)

    @property
    def metadata_as(self) -> dict[str, str | None]:
        """The metadata columns, each with its field name if the job gives one."""
        return {}

    @property
    def declared_types(self) -> dict[str, ColumnType]:
        """The types of metadata columns that the job declares."""
        return {}

    @property
    def opened(self) -> tuple[str, ...]:
        """What rows may refer to beside files of the source: see `tasks.domain.job.references`."""
        return ()

    @property
    def chunking(self) -> Chunks | None:
        """The splitting of its texts into chunks; None: each text is a row."""
        chunks: Chunks | None = getattr(self, "chunks", None)
        return chunks


def check_declared(source: SourceSettings) -> None:
    """Check that declared types are of metadata columns, and that texts can be split into chunks.

    Raises:
        ValueError: names the column, or says what to change.
    """
    check_chunks(source.chunking, embeds_text=source.modality == "text", names=list(source.metadata_as.values()))
    columns = source.scalars
    for column in source.declared_types:
        if column not in columns:
            raise ValueError(f"types: column '{column}' is not in metadata ({', '.join(columns) or 'none'}): add it there")


class TabularSource(SourceSettings):
    """Common settings of files and tables of rows with columns."""

    kind: Literal["parquet", "jsonl", "csv", "delta", "iceberg"] = Field("parquet", title="Format", description="File format.")
    uri: str = Field(
        "data",
        title="Where",
        description="A file, a folder, a glob, a list in braces (part-{000..099}.parquet), or a URI such as s3://lake/docs/*.parquet. Folders are "
        "searched recursively.",
        json_schema_extra=PLACE,
    )
    moved_from: FileLocation | Nothing = MOVED_FROM
    id: ColumnName | Nothing = Field(
        None,
        title="Key column",
        description="Column with a unique key per row. Left out: the key is a hash of the content.",
    )
    text: Annotated[ColumnNames, Field(title="columns")] | Nothing = Field(
        None,
        title="Text columns",
        description="Columns to embed as text, joined by a blank line. Left out with no image column: the column 'text'.",
    )
    image: ColumnName | Nothing = Field(
        None,
        title="Image column",
        description="Column of images to embed instead of text: paths relative to the row's file, absolute paths, URIs that `references` "
        "allows, or encoded bytes.",
    )
    metadata: Metadata = Field(default_factory=list, title="Metadata columns", description=f"Columns {METADATA_DESCRIPTION}")
    types: Annotated[dict[str, DeclaredType], ADDED_LATER] = TYPES
    chunks: ChunkSettings = CHUNKS
    references: Annotated[list[Reference], ADDED_LATER] = Field(
        default_factory=list,
        title="Allowed references",
        description="What the image column may refer to outside the source: a scheme (https: every public host), a URI (https://host/, "
        "s3://other-bucket/folder/; a named host may be in a private network), or a folder of this machine (/data/images/). Files below "
        "the source are always allowed, and so are files of this machine if the source is on it; loopback and link-local addresses, "
        "chained URLs and other schemes are never allowed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_idle_settings(cls, value: object) -> object:
        """Drop other formats' settings at their defaults: the run form has one tab for all table files and always sends all settings."""
        if not isinstance(value, dict):
            return value
        idle = {name: field.get_default() for name, field in TableForm.model_fields.items() if name not in cls.model_fields}
        return {name: setting for name, setting in value.items() if name not in idle or setting != idle[name]}

    @model_validator(mode="after")
    def _one_modality(self) -> TabularSource:
        if self.text is not None and self.image is not None:
            raise ValueError("give text columns or an image column, not both")
        if self.text is not None and not self.text:
            raise ValueError("text needs at least one column")
        check_declared(self)
        return self

    @property
    def modality(self) -> Modality:
        return "image" if self.image is not None else "text"

    @property
    def states_modality(self) -> bool:
        return self.text is not None or self.image is not None

    @property
    def named(self) -> NamedColumns:
        return NamedColumns(self.id, self.content)

    @property
    def metadata_as(self) -> dict[str, str | None]:
        return named_metadata(self.metadata)

    @property
    def declared_types(self) -> dict[str, ColumnType]:
        return self.types

    @property
    def opened(self) -> tuple[str, ...]:
        return tuple(self.references)

    @property
    def content(self) -> list[str]:
        """The columns that are embedded, in order."""
        if self.image is not None:
            return [self.image]
        return ["text"] if self.text is None else self.text

    @property
    def columns(self) -> list[str]:
        """Every column to read, each once."""
        return list(dict.fromkeys([*self.required, *self.metadata]))

    @property
    def required(self) -> list[str]:
        """The columns that every file must have: key and content."""
        return list(dict.fromkeys([*([self.id] if self.id else []), *self.content]))


class ParquetSource(TabularSource):
    """Parquet files; row groups are the unit of sharding."""

    model_config = ConfigDict(title="Parquet")

    kind: Literal["parquet"] = "parquet"


class JsonLinesSource(TabularSource):
    """JSON Lines: plain (split at byte ranges), or compressed (a file is a shard); a .json file may be one array of objects."""

    model_config = ConfigDict(title="JSON Lines")

    kind: Literal["jsonl"] = "jsonl"
    encoding: Encoding = ENCODING


class CsvSource(TabularSource):
    """CSV with a header line; a file is a shard, because a quoted newline can occur anywhere."""

    model_config = ConfigDict(title="CSV")

    kind: Literal["csv"] = "csv"
    delimiter: str = DELIMITER
    quote: QuoteCharacter = QUOTE
    escape: QuoteCharacter = ESCAPE
    encoding: Encoding = ENCODING

    @model_validator(mode="after")
    def _distinct(self) -> CsvSource:
        if self.delimiter in {self.quote, self.escape}:
            raise ValueError("delimiter, quote and escape must be different characters")
        return self


class TableForm(TabularSource):
    """Parquet, JSON Lines or CSV: files of rows with columns."""

    model_config = ConfigDict(title="Table files")  # the three have the same keys, so the form could not distinguish their tabs

    kind: Literal["parquet", "jsonl", "csv"] = Field("parquet", title="Format", description="File format.")
    delimiter: str = DELIMITER
    quote: QuoteCharacter = QUOTE
    escape: QuoteCharacter = ESCAPE
    encoding: Encoding = ENCODING


class ImagesSource(SourceSettings):
    """A folder of images, searched recursively; a row's key is its path relative to the folder."""

    model_config = ConfigDict(title="Image folder")

    kind: Literal["images"] = Field("images", description="Images in a folder.")
    uri: str = Field(
        "images",
        title="Folder",
        description="A folder or a glob of jpg, png, webp, avif, jp2, gif, tiff, bmp or (with the extra heif) heic files; a path or URI. Pixels of 16 bits "
        "are scaled by their range; the EXIF orientation is not applied, as in open_clip.",
        json_schema_extra=PLACE,
    )
    moved_from: FileLocation | Nothing = MOVED_FROM

    @property
    def modality(self) -> Modality:
        return "image"


class WebDatasetSource(SourceSettings):
    """WebDataset tar files: samples of one image with its .txt and .json; a tar is a shard."""

    model_config = ConfigDict(title="WebDataset")

    kind: Literal["webdataset"] = Field("webdataset", description="Samples in tar files.")
    uri: str = Field(
        "tars",
        title="Where",
        description="A tar file, a folder, a glob, a list in braces such as {00000..00099}.tar, or a URI.",
        json_schema_extra=PLACE,
    )
    moved_from: FileLocation | Nothing = MOVED_FROM
    embed: Modality = Field("image", description="What to embed: the sample's image or its caption.")
    caption_key: Annotated[ColumnName | Nothing, ADDED_LATER] = Field(
        None,
        title="Caption key",
        description="Key of the sample's .json that holds the caption to embed. Left out: the sample's .txt. For embed: text only.",
    )
    metadata: Metadata = Field(
        default_factory=list,
        title="Metadata keys",
        description=f"Keys of the sample's .json ('txt' is the sample's .txt) {METADATA_DESCRIPTION}",
    )
    types: Annotated[dict[str, DeclaredType], ADDED_LATER] = TYPES
    chunks: ChunkSettings = CHUNKS

    @model_validator(mode="after")
    def _types_of_metadata(self) -> WebDatasetSource:
        check_declared(self)
        return self

    @model_validator(mode="after")
    def _no_idle_caption_key(self) -> WebDatasetSource:
        if self.caption_key is not None and self.embed != "text":
            raise ValueError("caption_key is for embed: text; to store captions beside images, name the key in metadata")
        return self

    @property
    def modality(self) -> Modality:
        return self.embed

    @property
    def metadata_as(self) -> dict[str, str | None]:
        return named_metadata(self.metadata)

    @property
    def declared_types(self) -> dict[str, ColumnType]:
        return self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind(Kind[SourceSettings]):
    """A kind of source. `files`: "module:class" of a `tasks.adapters.sources.source_files.SourceFiles`."""

    files: str


SOURCES: Kinds[SourceKind] = Kinds(
    "source",
    default="parquet",
    known={
        "images": SourceKind(settings=ImagesSource, files="tasks.adapters.sources.images:ImageFiles"),
        "text-files": "tasks.adapters.sources.text_folder:TEXT_FILES",
        "webdataset": SourceKind(settings=WebDatasetSource, files="tasks.adapters.sources.webdataset:WebDatasetFiles"),
        "parquet": SourceKind(settings=ParquetSource, files="tasks.adapters.sources.parquet:ParquetFiles", form=TableForm),
        "jsonl": SourceKind(settings=JsonLinesSource, files="tasks.adapters.sources.jsonl:JsonLinesFiles", form=TableForm),
        "csv": SourceKind(settings=CsvSource, files="tasks.adapters.sources.csv:CsvFiles", form=TableForm),
        "delta": "tasks.adapters.sources.lake.delta:DELTA",
        "iceberg": "tasks.adapters.sources.lake.iceberg:ICEBERG",
    },
)


AnySource = Annotated[SourceSettings, SOURCES]
