"""What a server of embeddings may answer instead of vectors, told apart by what may be done next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from tasks.domain.errors import BadInput

TOKENWISE = (
    "encoder.model: the server gives a vector for each token of a text (late interaction, or no pooling), and a row has one:"
    " serve a model that gives one, or have the server pool them"
)


class NoVectors(Exception):
    """The texts of a request have no vectors. The message is one line; that of `Refused` becomes a row's reason."""


class ServerBusy(NoVectors):
    """It asks for patience. `seconds`: for how long, where it says so."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Unanswered(NoVectors):
    """No answer came, or not the whole of it: the server may have died, and another may stand in its place."""


class Faulty(NoVectors):
    """An answer that is none: an error of the server's own, or vectors that cannot be those of the texts."""


class Refused(NoVectors):
    """The server does not take these texts, however often it is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a server says of its model. `told`: what bears on a vector; the limits: None where it says nothing."""

    told: Mapping[str, JsonValue]
    most_rows: int | None = None  # in a request
    most_tokens: int | None = None  # of a text


class ServedApi(Protocol):
    """A protocol. Its methods may be called from many threads, and raise what stands above, and BadInput where a setting is wrong.

    whole   parameters of a request by which a text that the model does not read whole is refused; none where that is so anyway, or cannot be asked
    """

    whole: Mapping[str, JsonValue]

    def describe(self) -> Described:
        """What the server says of the model."""

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        """The vectors that the server gives for some texts: float32 of shape (vectors, dim), not yet held against anything."""


def as_vectors(found: Any) -> npt.NDArray[np.float32]:
    """Lists of numbers as an array. JSON has no NaN: null stands for it.

    Raises:
        Faulty: they are no vectors of one length.
        BadInput: each is a list of vectors.
    """
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, list) and first and isinstance(first[0], list):
        raise BadInput(TOKENWISE)
    try:
        vectors = np.asarray(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise Faulty("the server's vectors are no numbers, or of several lengths, as of models that give one for each token") from error
    if vectors.ndim == 3:
        raise BadInput(TOKENWISE)
    if vectors.ndim != 2:
        raise Faulty(f"the server gave an array of {vectors.ndim} dimensions where vectors were asked for")
    return vectors
