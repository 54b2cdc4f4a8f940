"""Fields and keys of rows that are chunks of documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tasks.domain.job.texts.chunks import CHUNK_FIELD_NAMES
from tasks.domain.target.fields import ScalarField, SourceField

F = TypeVar("F", bound=ScalarField)

LONGEST_NUMBER = len("#65534")  # most bytes that a chunk's key has more than the document's
_OWN = "#"  # prefix of a column's name that no source has
# The source's key, the number from 0, and the position in the document's text: characters [start, end).
CHUNK_FIELDS = tuple(
    SourceField(name=name, column=f"{_OWN}{name}", type="varchar" if name == "document" else "int64") for name in CHUNK_FIELD_NAMES
)


def has_chunks(fields: Iterable[ScalarField]) -> bool:
    """Whether rows with these fields are chunks."""
    return any(_is_own(field) for field in fields)


def source_fields(fields: Iterable[F]) -> tuple[F, ...]:
    """Return the fields that are filled from columns of the source."""
    return tuple(field for field in fields if not _is_own(field))


def _is_own(field: ScalarField) -> bool:
    return field.name in CHUNK_FIELD_NAMES and field.column == f"{_OWN}{field.name}"


def chunk_key(document: str, number: int) -> str:
    """Return the key of a chunk. All keys of a chunked corpus end this way, so they are unambiguous even if a document's key has a '#'."""
    return f"{document}#{number}"


def split_chunk_key(key: str) -> tuple[str, int]:
    """Return the document's key and the chunk's number."""
    document, _, number = key.rpartition("#")
    return document, int(number)
