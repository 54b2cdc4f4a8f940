"""The encoder of a collection of the same corpus that another encoder made, from its record in the checkpoint."""

from __future__ import annotations

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.models.model_files import locate_model
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.target.collection import CollectionSpec
from tasks.run.plan import Plan
from tasks.run.promotion.query_encoder import QueryEncoder


def encoder_that_made(plan: Plan, made: CollectionSpec | None) -> QueryEncoder:
    """The encoder for queries to a collection, which may be another than the job's; not loaded yet.

    Raises:
        BadInput: it is no longer available.
    """
    record = _made_with(plan, made.fingerprint) if made else None
    if record is None:
        raise BadInput("the checkpoint has no record of its encoder")
    encoder = ENCODERS[record.identity.kind].settings.restored(record.identity, like=plan.job.encoder)
    model = locate_model(encoder)
    if not model.is_model_of(record.identity.weights):
        raise BadInput(f"the weights of its model '{record.identity.model}' are no longer those that made it")
    return QueryEncoder(encoder, model_path=model.path, precision=record.identity.precision, facts=record.facts)


def _made_with(plan: Plan, fingerprint: str) -> EncoderRecord | None:
    """The record of another encoder; None if it cannot be read (a run of that encoder repairs it)."""
    try:
        return Checkpoint(plan.inspected.store, plan.job.corpus, fingerprint).read_encoder()
    except Permanent:
        return None
