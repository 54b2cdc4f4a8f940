"""Encoders in this process, for queries."""

from __future__ import annotations

from contextlib import suppress
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

    if precision != "float32":
        with suppress(Exception):
            loaded = open_encoder(encoder, model_path=model_path, precision=precision)
            loaded.embed_queries(["a"])  # it is said where it fails in float32 as well
            return loaded
    # Rows may be pictures, and the tower for words one that runs in float32 alone.
    return open_encoder(encoder, model_path=model_path, precision="float32")
