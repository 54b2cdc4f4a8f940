"""What a source has seen while it read a shard travels with the last of its batches."""

from __future__ import annotations

import pyarrow as pa
from pydantic import TypeAdapter

from tasks.domain.shards.findings import Finding

_KEY = b"kitestring.found"
_FINDINGS = TypeAdapter(tuple[Finding, ...])


def with_findings(batch: pa.RecordBatch, findings: tuple[Finding, ...]) -> pa.RecordBatch:
    """A batch of no row, with the columns of this one, that carries these."""
    metadata = {**(batch.schema.metadata or {}), _KEY: _FINDINGS.dump_json(findings)}
    return batch.slice(0, 0).replace_schema_metadata(metadata)


def findings_in(batch: pa.RecordBatch) -> tuple[Finding, ...]:
    """What a batch carries."""
    data = (batch.schema.metadata or {}).get(_KEY)
    return _FINDINGS.validate_json(data) if data else ()
