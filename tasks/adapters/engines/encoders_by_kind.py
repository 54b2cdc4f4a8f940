"""Opens the encoders for the kind that a job names."""

from __future__ import annotations

from tasks.adapters.engines.workplace import Workplace
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.kinds import declared_at
from tasks.domain.ports import Encoders


def open_encoders(place: Workplace) -> Encoders:
    """The encoders of a job, not started yet.

    Raises:
        BadInput: this machine cannot encode for the job; the message says why.
    """
    encoders: Encoders = declared_at(ENCODERS[place.job.encoder.kind].encoders)(place)
    return encoders
