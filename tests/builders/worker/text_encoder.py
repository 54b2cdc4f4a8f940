"""The text encoder, and what sentence-transformers' own `encode` makes of the same texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from sentence_transformers import SentenceTransformer

from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder, Vectors
from tasks.worker.encoders.registry import open_encoder


def opened(path: Path, compute: Compute | None = None, **settings: object) -> LoadedEncoder:
    encoder = SentenceTransformersEncoder.model_validate({"model": str(path), **settings})
    return open_encoder(encoder, model_path=str(path), precision="float32", compute=compute)


def embed(encoder: LoadedEncoder, texts: list[str]) -> Vectors:
    """Every text's vector, through the planned batches."""
    work = encoder.prepare(pa.table({"text": texts}))
    vectors = np.zeros((len(texts), encoder.facts().dim), dtype=np.float32)
    for batch in work.load(work.plan(range(len(texts))), alone=False):
        vectors[batch.rows] = encoder.encode(batch.contents)
    return vectors


def lowest_cosine(a: Vectors, b: Vectors) -> float:
    return float(((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def passages(count: int, seed: int = 3) -> list[str]:
    """Texts of 1 to 300 words, mostly short, as in real corpora."""
    random = np.random.default_rng(seed)
    words = np.array(
        ["the", "cat", "sat", "on", "a", "mat", "and", "read", "about", "parsing", "dates", "from", "strings", "in", "two", "files"]
    )
    return [" ".join(random.choice(words, size)) for size in np.minimum(300, random.lognormal(2.5, 1.0, count).astype(int) + 1)]


def stock(path: Path, texts: list[str], **settings: object) -> Vectors:
    return np.asarray(
        SentenceTransformer(str(path), device="cpu").encode(texts, normalize_embeddings=True, show_progress_bar=False, **settings)
    )
