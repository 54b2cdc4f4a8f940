"""How near to float32 vectors have to be, and a few texts by which a converted model is compared with the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.worker.base import Vectors, unit_length

if TYPE_CHECKING:  # a caller that has a model has imported its library
    from sentence_transformers import SentenceTransformer

LOWEST_COSINE = 0.9995
PROBE_TEXTS = ["a", "some words, of which there are more", "x " * 40]  # lengths differ: a traced model must not have a fixed one


def probe_vectors(model: SentenceTransformer) -> Vectors:
    """One vector of unit length for each probe."""
    found = model.encode(PROBE_TEXTS, normalize_embeddings=False, show_progress_bar=False)  # its own scaling rounds to its precision
    return unit_length(np.asarray(found))


def lowest_cosine(before: Vectors, after: Vectors) -> float:
    """Of the probes' vectors, each to itself; 1 where there are none."""
    return float((before * after).sum(axis=1).min(initial=1.0))
