"""Current types of metadata columns, from a sample of the files; stored in the checkpoint and sampled again when the files change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.checkpoint.span_file import Spool
from tasks.domain.target.fields import FieldType, SampledColumns, name_notes
from tasks.run.metadata_fields import field_notes
from tasks.run.preflight import Inspected


def types_now(inspected: Inspected, spool: Spool, columns: list[str]) -> dict[str, FieldType]:
    """The current types of the given columns, without columns that are empty. Only sources that have to sample store the result."""
    checkpoint = _checkpoint(inspected) if inspected.source.sampled else None
    stored = checkpoint.read(checkpoint.layout.sampled, SampledColumns) if checkpoint else None
    if stored and stored.files == spool.digest and set(columns) <= set(stored.columns):
        return stored.types
    survey = inspected.source.types_now(columns)
    types = {column: survey.type_of(column) for column in columns if any(survey.seen.get(column, {}))}
    if checkpoint and inspected.damages.mends:
        write_document(checkpoint.store, checkpoint.layout.sampled, SampledColumns(files=spool.digest, columns=tuple(columns), types=types))
    return types


def source_notes(inspected: Inspected, spool: Spool) -> Iterator[str]:
    """Yield the notes on the source and its metadata; called once the source is cut."""
    named = [column for column, name in inspected.job.source.metadata_as.items() if name]
    yield from inspected.source.notes
    yield from name_notes(inspected.fields, named)
    yield from field_notes(inspected.job.source, inspected.fields, partial(types_now, inspected, spool))


def _checkpoint(inspected: Inspected) -> Checkpoint | None:
    record = inspected.pinned()
    return Checkpoint(inspected.store, inspected.job.corpus, record.identity.fingerprint, inspected.damages) if record else None
