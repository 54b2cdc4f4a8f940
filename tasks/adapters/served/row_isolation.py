"""Rows of a batch to vectors, in as many requests as it takes; a row that has none is found and set aside alone.

A batch that fails is tried again, then halved, and a single row that fails twice is set aside, each time only after the server was asked who it
is and has answered: so no row is set aside for a server that is gone, and none is taken from another model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tasks.adapters.served.served_model import FloatArray, ServedModel
from tasks.adapters.served.server_answers import NoVectors, Refused, Unanswered

ROW_TRIES = 2
ZERO_VECTOR = "zero: the model returned a zero vector, as it does for unknown words"


@dataclass(slots=True)
class BatchOutcome:
    """Of the texts of a batch: a vector each, and by position why some have none."""

    vectors: FloatArray
    refused: dict[int, str] = field(default_factory=dict)


def embed_batch(model: ServedModel, texts: list[str], dim: int) -> BatchOutcome:
    """Every text of a batch has a vector or a reason.

    Raises:
        Transient: the server does not answer, or is too busy, for longer than patience lasts.
        Permanent: it serves another model.
    """
    outcome = BatchOutcome(np.zeros((len(texts), dim), np.float32))
    _settle(model, texts, list(range(len(texts))), outcome, alone=False)
    return outcome


def _settle(model: ServedModel, texts: list[str], positions: list[int], outcome: BatchOutcome, *, alone: bool) -> None:
    reason = ""
    for _ in range(ROW_TRIES):
        sent = model.now()
        try:
            found = model.embed_rows([texts[at] for at in positions], alone=alone)
        except Refused as error:
            reason = f"encoder: {error}"
            break
        except NoVectors as error:
            reason, was_down = f"encoder: {error}", model.confirm(sent)
            alone = alone or was_down or isinstance(error, Unanswered)  # it may have killed the server, or another has
        else:
            positions, reason = _keep(positions, found, outcome)
            if not positions:
                return
    if len(positions) == 1:
        outcome.refused[positions[0]] = reason
        return
    middle = len(positions) // 2
    for half in (positions[:middle], positions[middle:]):
        _settle(model, texts, half, outcome, alone=alone)


def _keep(positions: list[int], found: FloatArray, outcome: BatchOutcome) -> tuple[list[int], str]:
    """Positions whose vectors are not finite, and why; a neighbour's NaN may have spread over the batch."""
    finite = np.asarray(np.isfinite(found).all(axis=1))
    outcome.vectors[positions] = np.where(finite[:, None], found, 0)
    zero = finite & ~np.asarray(found.any(axis=1))
    outcome.refused.update((at, ZERO_VECTOR) for at, nothing in zip(positions, zero, strict=True) if nothing)
    kind = "NaN" if np.isnan(found).any() else "Inf"
    return [at for at, good in zip(positions, finite, strict=True) if not good], f"not finite: the model gave {kind}"
