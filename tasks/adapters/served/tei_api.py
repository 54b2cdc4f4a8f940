"""`/embed` and `/info` of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.server_answers import Described, Faulty, as_vectors
from tasks.adapters.served.server_connection import ServerConnection
from tasks.domain.errors import BadInput

OF_INFO = ("model_id", "model_sha", "model_dtype", "model_type", "max_input_length")  # the fields that can affect a vector


class TeiApi:
    """See `tasks.adapters.served.server_answers.ServedApi`."""

    whole: Mapping[str, JsonValue] = {"truncate": False}

    def __init__(self, encoder: ServedEncoder, connection: ServerConnection) -> None:
        self._model, self._connection = encoder.model, connection
        self._options: dict[str, JsonValue] = {"normalize": encoder.normalize, "truncate": True}

    def describe(self) -> Described:
        info = self._connection.get("/info")
        if not isinstance(info, dict) or "model_id" not in info:
            raise BadInput(f"encoder.url: {self._connection.url}/info describes no model: is encoder.api tei?")
        if self._model and self._model != info["model_id"]:
            raise BadInput(f"encoder.model: {self._connection.url} serves '{info['model_id']}', not '{self._model}'")
        return Described(
            properties={name: info[name] for name in OF_INFO if info.get(name) is not None},
            most_rows=_positive(info.get("max_client_batch_size")),
            most_tokens=_positive(info.get("max_input_length")),
        )

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        vectors = self._connection.post("/embed", {"inputs": texts, **self._options, **parameters})
        if not isinstance(vectors, list):
            raise Faulty("the server's answer has no vectors in the expected place")
        return as_vectors(vectors)


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
