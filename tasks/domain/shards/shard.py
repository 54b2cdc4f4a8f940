"""Shards: the units of work, identified by a digest of their content."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.strict import Strict

_ETAG = re.compile(r"[0-9a-f]{32}(-\d+)?", re.IGNORECASE)


class FileVersion(Strict):
    """One version of a file, from a listing."""

    path: str = Field(description="The place to open it: an absolute path, or a URI.")
    name: str = Field(description="Its name relative to the source's root; independent of where the root is mounted.")
    size: int = Field(ge=0, description="Bytes.")
    version: str = Field(description="ETag, or modification time in nanoseconds.")

    @property
    def is_timed(self) -> bool:
        """Whether the version may be a time, which different content can share. S3's ETag depends on the content; what a table says of its data
        files does not, on S3 either.
        """
        return not (self.path.startswith(("s3://", "s3a://")) and _ETAG.fullmatch(self.version))

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
    known_as: str = Field("", description="The root that its files were moved from; empty: they were not moved.")

    @property
    def known_files(self) -> dict[str, FileVersion]:
        """Its files by their current paths, each with the path below the root that it was first read from."""
        known = self.known_as.rstrip("/")
        return {file.path: file.model_copy(update={"path": f"{known}/{file.name}"}) if self.known_as else file for file in self.span.files}

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
    def is_timed(self) -> bool:
        """Whether the version of one of its files may be a time."""
        return any(file.is_timed for file in self.span.files)

    @property
    def group(self) -> str:
        """The first file's name."""
        return self.span.files[0].name

    @property
    def place(self) -> str:
        """The place of the first file: a newer shard of a file at the same place replaces this one."""
        return self.span.files[0].path


def name_shard(span: Span, *, rows_as: dict[str, object], fingerprint: str, root: str = "", known_as: str = "") -> Shard:
    """Make a shard of a span, with its id.

    Args:
        span: the files and the part of them.
        rows_as: how rows are made of the files (key, content and metadata columns, what is stored).
        fingerprint: the encoder's fingerprint.
        root: the root to include in the id, where files of equal names, sizes and versions may differ below another root; "": none.
        known_as: see `Shard`.
    """
    files = [{"name": f.name, "size": f.size, "version": f.version} for f in span.files]
    of = {
        "files": files,
        "extent": span.extent.model_dump(),
        "rows_as": rows_as,
        "encoder": fingerprint,
        **({"root": root} if root else {}),
    }
    return Shard(id=digest(of), span=span, known_as=known_as)  # type: ignore[arg-type]
