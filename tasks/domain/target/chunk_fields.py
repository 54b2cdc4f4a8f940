"""Fields and keys of rows that are chunks of documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tasks.domain.job.texts.chunks import CHUNK_FIELD_NAMES
from tasks.domain.target.fields import ScalarField, SourceField

F = TypeVar("F", bound=ScalarField)

LONGEST_NUMBER = len("#65534")  # bytes that a key is longer than that of its document
_OWN = "#"  # before the name of a column that no source has
# The source's key, the number from 0, and where it is in the document's text: characters [start, end).
CHUNK_FIELDS = tuple(
    SourceField(name=name, column=f"{_OWN}{name}", type="varchar" if name == "document" else "int64") for name in CHUNK_FIELD_NAMES
)


def has_chunks(fields: Iterable[ScalarField]) -> bool:
    """Whether rows with these fields are chunks."""
    return any(_is_own(field) for field in fields)


def source_fields(fields: Iterable[F]) -> tuple[F, ...]:
    """Those that a source's columns fill."""
    return tuple(field for field in fields if not _is_own(field))


def _is_own(field: ScalarField) -> bool:
    return field.name in CHUNK_FIELD_NAMES and field.column == f"{_OWN}{field.name}"


def chunk_key(document: str, number: int) -> str:
    """The key of a chunk. Every key of a corpus of chunks ends so, which keeps it unambiguous where a document's key holds '#'."""
    return f"{document}#{number}"


def split_chunk_key(key: str) -> tuple[str, int]:
    """The document's key and the chunk's number."""
    document, _, number = key.rpartition("#")
    return document, int(number)
