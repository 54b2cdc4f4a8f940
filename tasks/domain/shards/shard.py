"""Shards: the units of work, named by what they hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.strict import Strict


class FileVersion(Strict):
    """One file as it was when it was listed."""

    path: str = Field(description="What opens it: an absolute path, or a URI.")
    name: str = Field(description="Its name below the source's root; the same wherever the root is mounted.")
    size: int = Field(ge=0, description="Bytes.")
    version: str = Field(description="ETag, or modification time in nanoseconds.")

    @property
    def is_timed(self) -> bool:
        """Whether the version may be a time, which other content can have as well; what S3 gives tells of the content."""
        return not self.path.startswith(("s3://", "s3a://"))

    @property
    def root(self) -> str:
        """The place that its name is below."""
        return self.path.removesuffix(self.name).rstrip("/") or "/"


class RowGroups(Strict):
    """Row groups [start, stop) of a Parquet file."""

    kind: Literal["row_groups"] = "row_groups"
    start: int
    stop: int


class ByteRange(Strict):
    """The lines that begin in bytes [start, stop) of a file."""

    kind: Literal["bytes"] = "bytes"
    start: int
    stop: int


class Whole(Strict):
    """All of each file, in order."""

    kind: Literal["whole"] = "whole"


Extent = Annotated[RowGroups | ByteRange | Whole, Field(discriminator="kind")]


class Span(Strict):
    """What planning cuts from a listing: files, and which part of them."""

    files: tuple[FileVersion, ...] = Field(min_length=1)
    extent: Extent
    rows: int | None = Field(description="Known if a footer states it.")

    @property
    def size(self) -> int:
        """Bytes of the files, or of the range in them."""
        extent = self.extent
        return extent.stop - extent.start if isinstance(extent, ByteRange) else sum(file.size for file in self.files)


class Shard(Strict):
    """A span and how its rows are made into vectors; `id` is a digest of both."""

    format_version: Literal[1] = 1
    id: str
    span: Span

    @property
    def name(self) -> str:
        """For people: the file and where in it."""
        files, extent = self.span.files, self.span.extent
        head = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        if isinstance(extent, RowGroups):
            return f"{head} row groups {extent.start}-{extent.stop - 1}"
        if isinstance(extent, ByteRange):
            return f"{head} bytes {extent.start}-{extent.stop - 1}"
        return head

    @property
    def group(self) -> str:
        """The first file's name."""
        return self.span.files[0].name

    @property
    def place(self) -> str:
        """The place of the first file: a newer shard of a file at the same place replaces this one."""
        return self.span.files[0].path


def name_shard(span: Span, *, rows_as: dict[str, object], fingerprint: str) -> Shard:
    """Give a span its id.

    Args:
        span: what it holds.
        rows_as: how a row is made from it (key, content and metadata columns, what is kept).
        fingerprint: of the encoder.
    """
    held = [{"name": f.name, "size": f.size, "version": f.version} for f in span.files]
    return Shard(
        id=digest({"files": held, "extent": span.extent.model_dump(), "rows_as": rows_as, "encoder": fingerprint}),  # type: ignore[dict-item]
        span=span,
    )
