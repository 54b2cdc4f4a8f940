"""Preflight: find, open and check everything that a job names before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from prefect.blocks.system import Secret
from pydantic import JsonValue

from tasks.adapters.cache.registry import open_cache
from tasks.adapters.checkpoint.checkpoint import Checkpoint, put_pin, read_pin
from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.models.model_files import LocatedModel, locate_model
from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.rows.chunking.splitter import check_language, chunk_tokens, read_tokenizer
from tasks.adapters.served.server_token import read_secrets_with
from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.adapters.sources.source_files import SourceFiles
from tasks.adapters.targets.registry import target_for
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord, Precision, differences
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.ports import Store, Target
from tasks.domain.shards.layout import encoder_pin
from tasks.domain.strict import identifying
from tasks.domain.target.chunk_fields import CHUNK_FIELDS
from tasks.domain.target.fields import ELEMENTS, SettledColumns, SourceField, check_partition_key
from tasks.run.metadata_fields import columns_of_collection, columns_of_parts, newly_settled, settle_fields
from tasks.run.model_folders import as_pinned, place_of_folder

EDITED = "one was edited, so nothing was written: restore it, or delete it and run again, which writes a new one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A job with everything that it names found and opened."""

    job: Job
    source: SourceFiles[Any]
    fields: tuple[SourceField, ...]
    model: LocatedModel
    store: Store
    damages: Damages
    known_as: Mapping[str, JsonValue] = field(default_factory=dict)  # settings under which an older version keeps the encoder
    settles: SettledColumns | None = None  # columns that a run has to record

    @property
    def declared(self) -> str:
        """Digest of the declared encoder and its weights: the key of the pin, which says what `auto` was resolved to."""
        encoder = {**self.job.encoder.declared, **self.known_as}
        return digest({"encoder": encoder, "weights": self.model.weights, **self._resolved, **self._chunks})

    @property
    def collection_fields(self) -> tuple[SourceField, ...]:
        """The scalar fields of the collection: the metadata, and for chunks those that identify chunk and document."""
        return (*self.fields, *CHUNK_FIELDS) if self.job.source.chunking else self.fields

    @property
    def _chunks(self) -> dict[str, JsonValue]:
        """The chunk settings as part of the encoder's identity: the same text split differently has other vectors."""
        chunks, tokenizer = self.job.source.chunking, self.model.tokenizer_digest
        return {"chunks": {**chunks.model_dump(mode="json"), **({"tokenizer": tokenizer} if tokenizer else {})}} if chunks else {}

    @property
    def _earlier_settings(self) -> dict[str, JsonValue]:
        """The settings of `known_as` that are part of the encoder's identity."""
        return {name: value for name, value in self.known_as.items() if name in self.job.encoder.preprocessing}

    @property
    def _resolved(self) -> dict[str, JsonValue]:
        return {"resolved": dict(self.model.resolved)} if self.model.resolved else {}

    @property
    def rows_as(self) -> dict[str, object]:
        """The settings of making rows from the source that change the contents of parts."""
        source = identifying(self.job.source, exclude=set(self.job.source.locating))
        last = {"last_wins": True} if self.job.failures.on_duplicate == "last" else {}
        # Earlier versions stored lists as JSON texts, so parts with arrays are different parts.
        arrays = {field.column: field.type for field in self.fields if field.type in ELEMENTS}
        return {
            "source": source,
            "text": self.job.target.store_text,
            "id_length": self.job.target.id_length,
            **last,
            **({"arrays": arrays} if arrays else {}),
        }

    def pinned(self) -> EncoderRecord | None:
        """The encoder record pinned by the first run of this corpus; None before it. A damaged pin is recovered from `encoder.json`.

        Raises:
            BadInput: the pin describes another encoder than the job's.
        """
        key, corpus = encoder_pin(self.job.corpus, self.declared), self.job.corpus
        record = read_pin(self.store, corpus, self.declared, self.damages)
        if record is None and key in self.damages.keys:
            record = self._recovered_pin()
            return put_pin(self.store, corpus, self.declared, record, self.damages) if record and self.damages.mends else record
        if record and (wrong := differences(record.identity, self.identify(record.identity.precision, record.facts.quantized))):
            raise BadInput(f"{self.store.url}/{key} describes another encoder than this job's: {wrong}: {EDITED}")
        return record

    def _recovered_pin(self) -> EncoderRecord | None:
        """The record from the checkpoint folder of this encoder; None unless exactly one precision has such a folder."""
        declared = self.job.encoder.precision
        precisions: tuple[Precision, ...] = get_args(Precision) if declared == "auto" else (declared,)
        identities = [self.identify(precision) for precision in precisions]
        read = [Checkpoint(self.store, self.job.corpus, identity.fingerprint, self.damages).read_encoder() for identity in identities]
        records = [record for record in read if record]
        return records[0] if len(records) == 1 else None

    def identify(self, precision: Precision, quantized: str = "") -> EncoderIdentity:
        """The identity of the encoder at a precision. `quantized`: digest of the quantised model, if vectors are computed with one."""
        encoder, as_int8 = self.job.encoder, {"quantized": quantized} if quantized else {}
        return EncoderIdentity(
            kind=encoder.kind,
            model=encoder.model_name,
            revision=self.model.revision,
            weights=self.model.weights,
            preprocessing={**encoder.preprocessing, **self._earlier_settings, **self.model.resolved, **self._chunks, **as_int8},
            precision=precision,
        )

    def open_target(self) -> Target:
        """The job's target; the caller closes it."""
        return open_target(self.job)


def open_target(job: Job) -> Target:
    """A job's target, which connects at its first call; the caller closes it."""
    return target_for(job.target, token=_token(job), secret=_secret)


def live_collection(job: Job) -> str | None:
    """The collection that the job's alias points to, if any."""
    with closing(open_target(job)) as target:
        return target.resolve(job.target.collection)


def inspect_job(job: Job) -> Inspected:
    """Find, open and check what the job names; writes nothing.

    Raises:
        BadInput: something is missing or does not fit; one line that names it and the remedy.
    """
    source = open_source(job.source, rows=job.shards.rows, own=(job.checkpoint, job.target.address))
    source.inspect(())
    if job.target.gate:
        read_questions(job.target.gate.queries)
    inspected = _inspected(job, source, ())
    _check_chunks(inspected)
    recorded, known = columns_before(inspected) if job.source.scalars else (None, None)
    fields = settle_fields(source, known)
    partition_key = job.target.stored_as.partition_key
    if partition_key is not None:
        check_partition_key(partition_key, fields)
    return replace(inspected, fields=fields, settles=newly_settled(job.source, fields, recorded))


def _check_chunks(inspected: Inspected) -> None:
    """Check from the model's files that chunks can be made with it on this machine; `Plan.check_chunks` checks the loaded encoder."""
    chunks = inspected.job.source.chunking
    if chunks is None:
        return
    check_language(chunks)
    shape = shape_of(inspected.job.encoder, inspected.model)
    read_tokenizer(shape.tokenizer)
    if shape.limit is not None:
        chunk_tokens(chunks, shape.limit)


def columns_before(inspected: Inspected) -> tuple[SettledColumns | None, SettledColumns | None]:
    """The metadata columns of earlier runs: as recorded, and as known.

    Both are the same document, except for a corpus of an older version, which recorded none: then the first is None and the second
    is inferred from the collection or a sealed part.
    """
    record = inspected.pinned()
    if record is None:
        return None, None
    checkpoint = Checkpoint(inspected.store, inspected.job.corpus, record.identity.fingerprint, inspected.damages)
    recorded = checkpoint.read_columns()
    if recorded:
        return recorded, recorded
    in_collection = columns_of_collection(checkpoint, inspected.open_target(), inspected.job.target.collection)
    return None, in_collection or columns_of_parts(checkpoint, inspected.job.source.scalars)


def reach_target(inspected: Inspected) -> None:
    """Check that the target answers before the encoder is loaded, which takes longer.

    Raises:
        BadInput: the server does not answer, refuses the token, or `target.collection` is not available as an alias.
    """
    with closing(inspected.open_target()) as target:
        target.reach(inspected.job.target.collection)


def locate_job(job: Job) -> Inspected:
    """Open a job for commands that need only the model and the store; its source may be gone."""
    source = open_source(job.source, rows=job.shards.rows, own=(job.checkpoint, job.target.address))
    return _inspected(job, source, ())


def _inspected(job: Job, source: SourceFiles[Any], fields: tuple[SourceField, ...]) -> Inspected:
    store = open_store(job.checkpoint)
    model = as_pinned(job, locate_model(job.encoder), store)
    damages, known_as = Damages(store, job.corpus), place_of_folder(job, model, store)
    return Inspected(job=job, source=source, fields=fields, model=model, store=store, damages=damages, known_as=known_as)


def check_cache(job: Job) -> None:
    """Check that the job's cache can be opened; sends no request.

    Raises:
        BadInput: redis-py is not installed, or the Secret block does not exist.
    """
    if job.cache is None:
        return
    open_cache(job.cache).close()
    if job.cache.password_block is not None:
        from tasks.adapters.cache.redis_cache import provide_password  # noqa: PLC0415 - needs redis-py, an extra

        provide_password(job.cache.uri, _secret("cache.password_block", job.cache.password_block, instead=" or use REDIS_PASSWORD"))


def _token(job: Job) -> str | None:
    block = job.target.token_block
    if block is None:
        return os.environ.get(job.target.token_variable)
    return _secret("target.token_block", block, instead=" or use MILVUS_TOKEN")


def _secret(setting: str, block: str, instead: str = "") -> str:
    try:
        return str(Secret.load(block).get())  # type: ignore[union-attr]
    except ValueError as error:
        raise BadInput(f"{setting}: Prefect has no Secret block '{block}'; create it{instead}") from error


read_secrets_with(_secret)  # any process that plans a job may call a served model
