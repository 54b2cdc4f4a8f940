"""Rows of which the metadata alone was sent: their vectors were in the collection already."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.job.index import VectorType
from tasks.domain.number_format import size
from tasks.domain.strict import Strict

BYTES_OF_A_NUMBER: dict[VectorType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


class MetadataAlone(Strict):
    """What did not travel to the collection."""

    rows: int = Field(ge=0)
    vector_bytes: int = Field(ge=0, description="Of the vectors that were not sent.")


def metadata_alone(rows: int, *, dim: int, vectors: VectorType) -> MetadataAlone | None:
    """None: every row was sent whole."""
    return MetadataAlone(rows=rows, vector_bytes=rows * dim * BYTES_OF_A_NUMBER[vectors]) if rows else None


def format_metadata_alone(kept: MetadataAlone) -> str:
    """In one clause."""
    rows = "1 row was" if kept.rows == 1 else f"{kept.rows:,} rows were"
    return f"{rows} sent without {'its vector' if kept.rows == 1 else 'their vectors'}, which the collection holds: {size(kept.vector_bytes)} less"
