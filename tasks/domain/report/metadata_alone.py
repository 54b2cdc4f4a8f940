"""Rows of which only the metadata was sent, because the collection already holds their vectors."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.job.index import VectorType
from tasks.domain.number_format import size
from tasks.domain.strict import Strict

BYTES_OF_A_NUMBER: dict[VectorType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


class MetadataAlone(Strict):
    """The rows sent without vectors, and the saved traffic."""

    rows: int = Field(ge=0)
    vector_bytes: int = Field(ge=0, description="Bytes of the vectors that were not sent.")


def metadata_alone(rows: int, *, dim: int, vectors: VectorType) -> MetadataAlone | None:
    """Return the figures of `rows` rows sent without vectors; None if there are none."""
    return MetadataAlone(rows=rows, vector_bytes=rows * dim * BYTES_OF_A_NUMBER[vectors]) if rows else None


def format_metadata_alone(saved: MetadataAlone) -> str:
    """Format the figures as one clause."""
    rows = "1 row was" if saved.rows == 1 else f"{saved.rows:,} rows were"
    vectors = "its vector" if saved.rows == 1 else "their vectors"
    return f"{rows} sent without {vectors}, which the collection holds: {size(saved.vector_bytes)} less"
