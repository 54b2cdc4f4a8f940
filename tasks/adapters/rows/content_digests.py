"""128-bit digests of the embedded content: rows with equal digests have equal vectors under one encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.shards.shard import FileVersion

DIGEST = pa.binary(16)


def content_digests(rows: pa.RecordBatch, files: Mapping[str, FileVersion]) -> pa.Array:
    """Return each row's digest: of its text, of its image's bytes, or of the version of the file that is the image.

    Null for an image at a location that a row names: its content is unknown before it is read. If a version is a time, the
    digest includes the file's path: several files may share name, size and time.

    Args:
        rows: in the form of `tasks.adapters.rows.row_schema`.
        files: the files of the shard by path, each as it is known (`Shard.known_files`).
    """
    if "text" in rows.schema.names:
        return pa.array([_digest("text", text.encode()) for text in rows.column("text").to_pylist()], DIGEST)
    pictures = rows.column("image").to_pylist()
    places = rows.column("image_uri").to_pylist()
    return pa.array([_of_picture(*row, files) for row in zip(pictures, places, strict=True)], DIGEST)


def known_elsewhere(digests: pa.Array, rows: pa.RecordBatch, files: Mapping[str, FileVersion]) -> pa.Array:
    """Return the digests, null where one includes a path: another machine may have another image there."""
    if "text" in rows.schema.names:
        return digests
    timed = pa.array([place in files and files[place].is_timed for place in rows.column("image_uri").to_pylist()], pa.bool_())
    return pc.if_else(pc.and_(timed, pc.is_null(rows.column("image"))), pa.scalar(None, DIGEST), digests)


def _of_picture(content: bytes | None, location: str | None, files: Mapping[str, FileVersion]) -> bytes | None:
    if content is not None:
        return _digest("image", content)
    file = files.get(location or "")
    if file is None:
        return None
    name = file.path if file.is_timed else file.name
    return _digest("file", f"{name}\0{file.size}\0{file.version}".encode(errors="surrogateescape"))


def _digest(kind: str, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, person=kind.encode()).digest()
