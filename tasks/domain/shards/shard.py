"""Shards: the units of work, identified by a digest of their content."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.strict import Strict


class FileVersion(Strict):
    """One version of a file, from a listing."""

    path: str = Field(description="The place to open it: an absolute path, or a URI.")
    name: str = Field(description="Its name relative to the source's root; independent of where the root is mounted.")
    size: int = Field(ge=0, description="Bytes.")
    version: str = Field(description="ETag, or modification time in nanoseconds.")

    @property
    def is_timed(self) -> bool:
        """Whether the version may be a time, which different content can share; S3's ETag depends on the content."""
        return not self.path.startswith(("s3://", "s3a://"))

    @property
    def root(self) -> str:
        """The place that its name is relative to."""
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
    """A slice of the source: files, and the part of them to read."""

    files: tuple[FileVersion, ...] = Field(min_length=1)
    extent: Extent
    rows: int | None = Field(description="Number of rows, if a footer states it.")

    @property
    def size(self) -> int:
        """Bytes of the files, or of the range in them."""
        extent = self.extent
        return extent.stop - extent.start if isinstance(extent, ByteRange) else sum(file.size for file in self.files)


class Shard(Strict):
    """A span to embed; `id` is a digest of the span and of how its rows become vectors."""

    format_version: Literal[1] = 1
    id: str
    span: Span

    @property
    def name(self) -> str:
        """The file and the part of it, for people."""
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
    """Make a shard of a span, with its id.

    Args:
        span: the files and the part of them.
        rows_as: how rows are made of the files (key, content and metadata columns, what is stored).
        fingerprint: the encoder's fingerprint.
    """
    files = [{"name": f.name, "size": f.size, "version": f.version} for f in span.files]
    return Shard(
        id=digest({"files": files, "extent": span.extent.model_dump(), "rows_as": rows_as, "encoder": fingerprint}),  # type: ignore[dict-item]
        span=span,
    )
