"""Converts vectors to and from a collection's vector type. Seals hold float32; only the collection holds converted vectors.

float16    rounded to nearest; the range ends at 65,504
bfloat16   rounded to nearest; float32's range with fewer digits
int8       each vector is scaled so that its largest component is 127, and rounded; cosine similarity ignores the scale. Vectors of
           all-MiniLM-L6-v2 stay within cosine 0.9999 (384 dimensions; fewer dimensions or one outlier lose more)
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
    """Convert float32 of shape (rows, dim) to the collection's type, deterministically. Sparse vectors are unchanged.

    Raises:
        Permanent: a number exceeds the type's range.
    """
    if is_sparse(vectors):
        return vectors
    if kind == "int8":
        return _scaled(vectors)
    with np.errstate(over="ignore"):
        narrowed: np.ndarray = np.ascontiguousarray(vectors, dtype=DTYPES[kind])
    if kind == "float16" and not np.isfinite(narrowed).all():
        raise Permanent("a vector holds a number beyond float16's 65,504: set target.vector_type to bfloat16 or float32")
    return narrowed


def _scaled(vectors: np.ndarray) -> np.ndarray:
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    scaled: np.ndarray = np.rint(vectors * (127 / np.where(largest == 0, 1, largest))).astype(np.int8)
    return scaled


def widen(stored: object, kind: VectorType) -> np.ndarray:
    """Convert stored vectors to float32: an array of any shape, or one vector from pymilvus (numbers, bytes, a list of bytes)."""
    if isinstance(stored, list) and stored and isinstance(stored[0], bytes):
        stored = stored[0]
    values = np.frombuffer(stored, DTYPES[kind]) if isinstance(stored, bytes) else np.asarray(stored)
    return values.astype(np.float32, copy=False)


def rounded(vectors: np.ndarray, kind: VectorType) -> np.ndarray:
    """Return float32 vectors as a collection of this type would return them."""
    return vectors if is_sparse(vectors) else widen(narrow(vectors, kind), kind)
