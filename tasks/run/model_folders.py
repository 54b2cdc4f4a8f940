"""Where the folder of a model was in an older version's identity, which held its path: moved or not, it is the same encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pydantic import JsonValue

from tasks.adapters.checkpoint.checkpoint import read_pin
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.digest import digest
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import EncoderIdentity
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
