"""The failures of a model server, classified by how to proceed, and the interface of its protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from tasks.domain.errors import BadInput

TOKENWISE = (
    "encoder.model: the server returns a vector for each token of a text (late interaction, or no pooling), but a row needs one:"
    " serve a model that returns one, or have the server pool them"
)


class NoVectors(Exception):
    """A request returned no vectors. The message is one line; that of `Refused` becomes a row's quarantine reason."""


class ServerBusy(NoVectors):
    """The server is overloaded. `seconds`: when to retry, if it says so."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Unanswered(NoVectors):
    """No answer, or an incomplete one: the server may have died and been replaced by another."""


class Faulty(NoVectors):
    """An unusable answer: an internal error of the server, or vectors that cannot belong to the texts."""


class Refused(NoVectors):
    """The server refuses these texts; retrying cannot help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A server's description of its model. `properties`: those that can affect a vector; limits are None if not reported."""

    properties: Mapping[str, JsonValue]
    most_rows: int | None = None  # in a request
    most_tokens: int | None = None  # of a text


class ServedApi(Protocol):
    """A protocol of model servers. Methods are thread-safe; they raise NoVectors, or BadInput if a setting is wrong.

    whole   request parameters that make the server refuse texts longer than the model reads; empty if it always does, or cannot
    """

    whole: Mapping[str, JsonValue]

    def describe(self) -> Described:
        """The server's description of the model."""

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        """The server's vectors for some texts: float32 of shape (vectors, dim), not validated."""


def as_vectors(numbers: Any) -> npt.NDArray[np.float32]:
    """Lists of numbers as an array. JSON has no NaN: null becomes NaN.

    Raises:
        Faulty: they are not vectors of equal length.
        BadInput: each text has a list of vectors.
    """
    first = numbers[0] if isinstance(numbers, list) and numbers else None
    if isinstance(first, list) and first and isinstance(first[0], list):
        raise BadInput(TOKENWISE)
    try:
        vectors = np.asarray(numbers, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise Faulty("the server's vectors are not numbers, or differ in length, as from models that return one per token") from error
    if vectors.ndim == 3:
        raise BadInput(TOKENWISE)
    if vectors.ndim != 2:
        raise Faulty(f"the server returned an array of {vectors.ndim} dimensions instead of vectors")
    return vectors
