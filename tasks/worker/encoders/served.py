"""The questions' side of a served model: rows are embedded by `tasks.adapters.engines.served_encoders`, without any rank."""

from __future__ import annotations

from typing import Any

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.errors import BadInput
from tasks.worker.base import Vectors

QUERY_SECONDS = 60.0  # for which whoever searches waits for a server that is busy or gone


class ServedQueries:
    """What `tasks.worker.base.LoadedEncoder` says of searches."""

    def __init__(self, encoder: ServedEncoder, **_: Any) -> None:
        self._model = ServedModel(encoder, patience=QUERY_SECONDS, startup=QUERY_SECONDS)
        self._facts = self._model.facts()

    def facts(self) -> EncoderFacts:
        return self._facts

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self._model.embed_questions(texts)

    def embed_pictures(self, places: list[str]) -> Vectors:
        raise BadInput(f"'{places[0]}' is a picture, and a served encoder knows words alone")

    def close(self) -> None:
        self._model.close()
