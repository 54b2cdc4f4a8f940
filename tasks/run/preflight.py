"""Everything that a job names is looked at before anything is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prefect.blocks.system import Secret

from tasks.adapters.checkpoint.checkpoint import Checkpoint, put_pin, read_pin
from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.milvus.import_collection import BulkCollection
from tasks.adapters.models.model_files import LocatedModel, locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.sources.registry import Opened, open_source, sample_texts
from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.adapters.targets.registry import open_bulk, open_collection
from tasks.domain.digest import digest
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import EncoderIdentity, EncoderRecord, Precision, differences
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection, Store
from tasks.domain.shards.layout import encoder_pin
from tasks.domain.target.fields import ELEMENTS, ScalarField, check_partition_key, name_fields

SAMPLE_ROWS = 32  # on which `precision: auto` is tried
EDITED = "one was edited, so nothing was written: put it back as it was, or remove it and run again, which writes it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A job whose every part has been found and opened."""

    job: Job
    source: Opened
    fields: tuple[ScalarField, ...]
    model: LocatedModel
    store: Store
    damages: Damages

    @property
    def declared(self) -> str:
        """Digest of the encoder as declared and of its weights: the key of what `auto` was resolved to."""
        settings = self.job.encoder.model_dump(mode="json", exclude={"model", "revision"})
        return digest({"encoder": settings, "weights": self.model.weights})

    @property
    def rows_as(self) -> dict[str, object]:
        """How a row is made from the source, as far as it changes a part."""
        source = self.job.source.model_dump(mode="json", exclude={"uri", "moved_from"})
        last = {"last_wins": True} if self.job.failures.on_duplicate == "last" else {}
        # Lists were JSON texts once: parts that hold them so are not those that hold arrays.
        arrays = {field.column: field.type for field in self.fields if field.type in ELEMENTS}
        return {
            "source": source,
            "text": self.job.target.store_text,
            "id_length": self.job.target.id_length,
            **last,
            **({"arrays": arrays} if arrays else {}),
        }

    def pinned(self) -> EncoderRecord | None:
        """What the first run of this corpus settled; None before it. One that is damaged is found again in `encoder.json`.

        Raises:
            BadInput: it speaks of another encoder than the job's.
        """
        key, corpus = encoder_pin(self.job.corpus, self.declared), self.job.corpus
        record = read_pin(self.store, corpus, self.declared, self.damages)
        if record is None and key in self.damages.keys:
            record = self._pinned_again()
            return put_pin(self.store, corpus, self.declared, record, self.damages) if record and self.damages.mends else record
        if record and (wrong := differences(record.identity, self.identify(record.identity.precision))):
            raise BadInput(f"{self.store.url}/{key} speaks of another encoder than this job's: {wrong}: {EDITED}")
        return record

    def _pinned_again(self) -> EncoderRecord | None:
        """The record of the one precision in which this encoder has a folder in the checkpoint."""
        declared = self.job.encoder.precision
        precisions: tuple[Precision, ...] = get_args(Precision) if declared == "auto" else (declared,)
        identities = [self.identify(precision) for precision in precisions]
        records = [Checkpoint(self.store, self.job.corpus, identity.fingerprint, self.damages).read_encoder() for identity in identities]
        found = [record for record in records if record]
        return found[0] if len(found) == 1 else None

    def identify(self, precision: Precision) -> EncoderIdentity:
        """The identity of the encoder at a precision."""
        encoder = self.job.encoder
        told = {"model", "revision", "precision", "pretrained", "kind", "trust_remote_code"}
        return EncoderIdentity(
            kind=encoder.kind,
            model=model_name(self.job),
            revision=self.model.revision,
            weights=self.model.weights,
            preprocessing=encoder.model_dump(mode="json", exclude=told),
            precision=precision,
        )

    def open_target(self, name: str) -> Collection:
        """Connect to the target's collection of this name."""
        return open_target(self.job, name)

    def open_bulk(self, name: str) -> BulkCollection:
        """Connect to a collection of this name that an import fills."""
        return open_bulk(self.job.target, name, token=_token(self.job))

    def sample(self, folder: Path) -> list[str]:
        """Some texts, or paths of images; those that are bytes are put into the folder."""
        return sample_texts(self.source, SAMPLE_ROWS, folder=folder)


def open_target(job: Job, name: str) -> Collection:
    """Connect to this collection of a job's target."""
    return open_collection(job.target, name, token=_token(job))


def live_collection(job: Job) -> str | None:
    """The collection that the job's alias points to, if any."""
    collection = open_target(job, job.target.collection)
    try:
        return collection.promoted()
    finally:
        collection.close()


def model_name(job: Job) -> str:
    """The model for people."""
    encoder = job.encoder
    return encoder.model if encoder.kind == "sentence-transformers" else f"{encoder.architecture} {encoder.pretrained}"


def inspect_job(job: Job) -> Inspected:
    """Find and open what the job names; writes nothing.

    Raises:
        BadInput: something is not there or does not fit; one line that names it and the cure.
    """
    source = open_source(job.source, rows=job.shards.rows)
    columns = source.inspect()
    wanted = list(dict.fromkeys(getattr(job.source, "metadata", [])))
    fields = name_fields({column: columns[column] for column in wanted})
    if job.target.partition_key is not None:
        check_partition_key(job.target.partition_key, fields)
    if job.target.gate:
        read_questions(job.target.gate.queries)
    return _inspected(job, source, fields)


def reach_target(inspected: Inspected) -> None:
    """Find a target that does not answer before the encoder takes its time to load.

    Raises:
        BadInput: nothing answers, the token is refused, or `target.collection` is not free for an alias.
    """
    collection = inspected.open_target(inspected.job.target.collection)
    try:
        collection.reach()
    finally:
        collection.close()


def locate_job(job: Job) -> Inspected:
    """Open a job for what needs the model and the store alone: its source may be gone."""
    source = open_source(job.source, rows=job.shards.rows)
    return _inspected(job, source, ())


def _inspected(job: Job, source: Opened, fields: tuple[ScalarField, ...]) -> Inspected:
    model, store = locate_model(job.encoder), open_store(job.checkpoint)
    return Inspected(job=job, source=source, fields=fields, model=model, store=store, damages=Damages(store, job.corpus))


def _token(job: Job) -> str | None:
    block = job.target.token_block
    if block is None:
        return os.environ.get("MILVUS_TOKEN")
    try:
        return str(Secret.load(block).get())  # type: ignore[union-attr]
    except ValueError as error:
        raise BadInput(f"target.token_block: Prefect has no Secret block '{block}'; create it or use MILVUS_TOKEN") from error
