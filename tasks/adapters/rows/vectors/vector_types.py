"""Vectors as a collection stores them, and back. Seals hold float32; converted vectors are stored in the collection alone.

float16    rounded to the nearest; beyond 65,504 there is none
bfloat16   rounded to the nearest; float32's range in a coarser grid
int8       each vector stretched until its largest number is 127, and rounded: a cosine does not see the stretching. Vectors of
           all-MiniLM-L6-v2 stay within cosine 0.9999 (384 dimensions; fewer or one that stands out lose more)
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tasks.adapters.rows.vectors.sparse_vectors import is_sparse
from tasks.domain.errors import Permanent
from tasks.domain.job.index import VectorType

DTYPES: dict[VectorType, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}


def narrow(vectors: np.ndarray, kind: VectorType) -> np.ndarray:
    """float32 of shape (rows, dim) as the collection stores it; the same vector always gives the same. Sparse ones are stored as they are.

    Raises:
        Permanent: a number is beyond the type's range.
    """
    if is_sparse(vectors):
        return vectors
    if kind == "int8":
        return _stretched(vectors)
    with np.errstate(over="ignore"):
        narrowed: np.ndarray = np.ascontiguousarray(vectors, dtype=DTYPES[kind])
    if kind == "float16" and not np.isfinite(narrowed).all():
        raise Permanent("a vector holds a number beyond float16's 65,504: set target.vector_type to bfloat16 or float32")
    return narrowed


def _stretched(vectors: np.ndarray) -> np.ndarray:
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    stretched: np.ndarray = np.rint(vectors * (127 / np.where(largest == 0, 1, largest))).astype(np.int8)
    return stretched


def widen(stored: object, kind: VectorType) -> np.ndarray:
    """Stored vectors as float32: an array of any shape, or one vector as pymilvus gives it (numbers, bytes, a list of bytes)."""
    if isinstance(stored, list) and stored and isinstance(stored[0], bytes):
        stored = stored[0]
    values = np.frombuffer(stored, DTYPES[kind]) if isinstance(stored, bytes) else np.asarray(stored)
    return values.astype(np.float32, copy=False)


def rounded(vectors: np.ndarray, kind: VectorType) -> np.ndarray:
    """float32 vectors as they come back from a collection that stores them so."""
    return vectors if is_sparse(vectors) else widen(narrow(vectors, kind), kind)
