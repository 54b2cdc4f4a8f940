"""The required closeness to float32, and probe texts to compare a converted model with the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.worker.base import Vectors, unit_length

if TYPE_CHECKING:  # callers that have a model have already imported its library
    from sentence_transformers import SentenceTransformer

LOWEST_COSINE = 0.9995
PROBE_TEXTS = ["a", "some words, of which there are more", "x " * 40]  # of different lengths: a traced model must not have a fixed one


def probe_vectors(model: SentenceTransformer) -> Vectors:
    """Return a vector of unit length for each probe text."""
    vectors = model.encode(
        PROBE_TEXTS, normalize_embeddings=False, show_progress_bar=False
    )  # the library's normalisation rounds to the model's precision
    return unit_length(np.asarray(vectors))


def lowest_cosine(before: Vectors, after: Vectors) -> float:
    """Return the lowest cosine between corresponding vectors of unit length; 1 if there are none."""
    return float((before * after).sum(axis=1).min(initial=1.0))
