"""Models as older versions identified them: a folder by its path, a model of the hub by its name. What was embedded so goes on."""

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
    """The settings that stand in an older pin of the same folder; none where there is no such pin, or the encoder is no folder."""
    encoder = job.encoder
    for key, identity in _pins(job.corpus, store) if encoder.in_folder else ():
        named = encoder.as_earlier(identity) if identity.weights == model.weights else {}
        if named and key == digest({"encoder": {**encoder.declared, **named}, "weights": model.weights}):
            return named
    return {}


def as_pinned(job: Job, model: LocatedModel, store: Store) -> LocatedModel:
    """The model under the digest by which an older version knew it, where that has settled this corpus' encoder."""
    declared = digest({"encoder": job.encoder.declared, "weights": model.earlier})
    with suppress(KitestringError):
        if model.earlier and read_pin(store, job.corpus, declared):
            return replace(model, weights=model.earlier, revision=None)
    return model


def _pins(corpus: str, store: Store) -> Iterator[tuple[str, EncoderIdentity]]:
    """Of every encoder that the corpus was embedded with: the digest of what was declared, and what it was settled to be."""
    for stored in store.list(encoder_pins(corpus)):
        declared = stored.key.rpartition("/")[2].removesuffix(".json")
        if "-" in declared:  # what was measured
            continue
        with suppress(KitestringError):
            record = read_pin(store, corpus, declared)
            if record:
                yield declared, record.identity
