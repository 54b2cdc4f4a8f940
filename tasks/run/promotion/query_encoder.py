"""Encoders in this process, for queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.domain.job.encoder import Encoder, Precision

if TYPE_CHECKING:  # torch is loaded by who searches, not by who imports
    from tasks.worker.base import LoadedEncoder


def load_encoder(encoder: Encoder, *, model_path: str, precision: Precision) -> LoadedEncoder:
    """A model that embeds queries as a run's ranks embed rows.

    Raises:
        BadInput: it cannot be loaded.
    """
    from tasks.worker.encoders.registry import open_encoder  # noqa: PLC0415

    return open_encoder(encoder, model_path=model_path, precision=precision)
