"""What a splitter knows of a model."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.model_metadata import ModelShape, shape_of
from tasks.domain.job.encoder import SentenceTransformersEncoder


def shape(model: Path, prompt: str | None = None) -> ModelShape:
    encoder = SentenceTransformersEncoder(model=str(model), prompt=prompt)
    return shape_of(encoder, locate_model(encoder))
