"""Pins of older versions, which identified a model folder by its path and a hub model by its name: their corpora keep their encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from pydantic import JsonValue

from tasks.adapters.checkpoint.checkpoint import read_pin
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderIdentity
from tasks.domain.errors import KitestringError
from tasks.domain.job.job import Job
from tasks.domain.ports import Store
from tasks.domain.shards.layout import encoder_pins


def place_of_folder(job: Job, model: LocatedModel, store: Store) -> dict[str, JsonValue]:
    """The settings in an older pin of the same folder; empty if there is no such pin or the encoder is not a folder."""
    encoder = job.encoder
    for key, identity in _pins(job.corpus, store) if encoder.in_folder else ():
        settings = encoder.as_earlier(identity) if identity.weights == model.weights else {}
        if settings and key == digest({"encoder": {**encoder.declared, **settings}, "weights": model.weights}):
            return settings
    return {}


def as_pinned(job: Job, model: LocatedModel, store: Store) -> LocatedModel:
    """The model with the digest that an older version gave it, if that version pinned this corpus' encoder; else the model as it is."""
    declared = digest({"encoder": job.encoder.declared, "weights": model.earlier})
    with suppress(KitestringError):
        if model.earlier and read_pin(store, job.corpus, declared):
            return replace(model, weights=model.earlier, revision=None)
    return model


def _pins(corpus: str, store: Store) -> Iterator[tuple[str, EncoderIdentity]]:
    """Yield the digest of the declared encoder and the pinned identity, for every encoder of the corpus."""
    for stored in store.list(encoder_pins(corpus)):
        declared = stored.key.rpartition("/")[2].removesuffix(".json")
        if "-" in declared:  # a document of measurements, not a pin
            continue
        with suppress(KitestringError):
            record = read_pin(store, corpus, declared)
            if record:
                yield declared, record.identity
