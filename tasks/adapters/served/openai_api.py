"""The `/embeddings` API as OpenAI defined it and vLLM, infinity, text-embeddings-inference, Ollama and NVIDIA NIM implement it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.server_answers import Described, Faulty, Refused, as_vectors
from tasks.adapters.served.server_connection import ServerConnection
from tasks.domain.errors import BadInput

# The fields of `/models` that describe the model. The others are the server's start time, file locations and load.
OF_MODEL = ("id", "max_model_len", "backend")


class OpenAiApi:
    """See `tasks.adapters.served.server_answers.ServedApi`."""

    whole: Mapping[str, JsonValue] = {}

    def __init__(self, encoder: ServedEncoder, connection: ServerConnection) -> None:
        self._model, self._connection = encoder.model, connection
        self._encoding: dict[str, JsonValue] = {"encoding_format": "base64"}  # a quarter of the bytes of decimal numbers

    def describe(self) -> Described:
        listed = self._connection.get("/models")
        try:
            models = {str(model["id"]): model for model in listed["data"]}
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"encoder.url: {self._connection.url}/models is not a list of models: is encoder.api openai, with its prefix?"
            ) from error
        if self._model not in models:
            names = ", ".join(models) or "none"
            raise BadInput(f"encoder.model: {self._connection.url} serves no '{self._model}'; it has: {names}")
        model = models[self._model]
        longest = model.get("max_model_len")
        return Described(
            properties={name: model[name] for name in OF_MODEL if name in model}, most_tokens=longest if isinstance(longest, int) else None
        )

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        body = {"model": self._model, "input": texts, **self._encoding, **parameters}
        try:
            answer = self._connection.post("/embeddings", body)
        except Refused as error:
            if not self._encoding or "encoding" not in str(error):
                raise
            self._encoding = {}  # the server supports decimal numbers only
            return self.embed(texts, parameters)
        return as_vectors(_in_order(answer, len(texts)))


def _in_order(answer: Any, count: int) -> list[Any]:
    """The vectors in the order of their texts, whatever the order of the answer."""
    try:
        vectors = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
        if vectors.keys() != set(range(count)) or len(answer["data"]) != count:
            raise Faulty(f"the server returned {len(answer['data'])} vectors for {count} texts")
        return [np.frombuffer(b64decode(vector), "<f4") if isinstance(vector, str) else vector for vector in map(vectors.get, range(count))]
    except (KeyError, TypeError, ValueError) as error:
        raise Faulty("the server's answer has no vectors in the expected place") from error
