"""Query embedding of a served model. `tasks.adapters.engines.served_encoders` embeds the rows, without ranks."""

from __future__ import annotations

from typing import Any

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.errors import BadInput
from tasks.worker.base import Vectors

QUERY_SECONDS = 60.0  # how long a search waits for a busy or unreachable server


class ServedQueries:
    """The query methods of `tasks.worker.base.LoadedEncoder`."""

    def __init__(self, encoder: ServedEncoder, **_: Any) -> None:
        self._model = ServedModel(encoder, patience=QUERY_SECONDS, startup=QUERY_SECONDS)
        self._facts = self._model.facts()

    def facts(self) -> EncoderFacts:
        return self._facts

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self._model.embed_questions(texts)

    def embed_pictures(self, places: list[str]) -> Vectors:
        raise BadInput(f"'{places[0]}' is an image, but a served encoder embeds text only")

    def close(self) -> None:
        self._model.close()
