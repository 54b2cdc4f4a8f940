"""What vectors are held against, and how near they are to it."""

from __future__ import annotations

import numpy as np

STOCK = "SentenceTransformer.encode"


def cosines(reference: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Lowest and mean cosine between rows."""
    a, b = reference.astype(np.float64), other.astype(np.float64)
    found = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(found.min()), float(found.mean())
