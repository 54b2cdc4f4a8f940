"""Embeds the rows of a batch in as many requests as needed; isolates and quarantines rows that have no vector.

A failed batch is retried, then halved, and a single row that fails twice is quarantined. Before each step the server must confirm that it
is up and serves the pinned model: so no row is quarantined because the server is down, and no vector comes from another model.
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
    """A vector for each text of a batch, and by position the reasons why some have none."""

    vectors: FloatArray
    refused: dict[int, str] = field(default_factory=dict)


def embed_batch(model: ServedModel, texts: list[str], dim: int) -> BatchOutcome:
    """Embed a batch: every text gets a vector or a reason.

    Raises:
        Transient: the server does not answer, or is too busy, for longer than the model's patience.
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
            vectors = model.embed_rows([texts[at] for at in positions], alone=alone)
        except Refused as error:
            reason = f"encoder: {error}"
            break
        except NoVectors as error:
            reason, was_down = f"encoder: {error}", model.confirm(sent)
            alone = alone or was_down or isinstance(error, Unanswered)  # this request may have crashed the server, or another one
        else:
            positions, reason = _store(positions, vectors, outcome)
            if not positions:
                return
    if len(positions) == 1:
        outcome.refused[positions[0]] = reason
        return
    middle = len(positions) // 2
    for half in (positions[:middle], positions[middle:]):
        _settle(model, texts, half, outcome, alone=alone)


def _store(positions: list[int], vectors: FloatArray, outcome: BatchOutcome) -> tuple[list[int], str]:
    """Store finite vectors; return the other positions, to be retried since one text's NaN may spread over a batch, and the reason."""
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    outcome.vectors[positions] = np.where(finite[:, None], vectors, 0)
    zero = finite & ~np.asarray(vectors.any(axis=1))
    outcome.refused.update((at, ZERO_VECTOR) for at, is_zero in zip(positions, zero, strict=True) if is_zero)
    kind = "NaN" if np.isnan(vectors).any() else "Inf"
    return [at for at, good in zip(positions, finite, strict=True) if not good], f"not finite: the model gave {kind}"
