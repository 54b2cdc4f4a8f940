"""Who turns pieces into parts, by the encoder's kind. A served encoder: a file beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from tasks.adapters.engines.torchrun_encoders import open_ranks
from tasks.adapters.engines.workplace import Workplace
from tasks.domain.ports import Encoders

ENCODERS: dict[str, Callable[[Workplace], Encoders]] = {}  # of the kinds that have no model to load here


def open_encoders(place: Workplace) -> Encoders:
    """The encoders of a job; nothing is started yet.

    Raises:
        BadInput: this machine cannot encode for the job; says why.
    """
    return ENCODERS.get(place.job.encoder.kind, open_ranks)(place)
