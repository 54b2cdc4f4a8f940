"""Findings that a source makes while it reads a shard, carried by the metadata of an empty last batch."""

from __future__ import annotations

import pyarrow as pa
from pydantic import TypeAdapter

from tasks.domain.shards.findings import Finding

_KEY = b"kitestring.found"
_FINDINGS = TypeAdapter(tuple[Finding, ...])


def with_findings(batch: pa.RecordBatch, findings: tuple[Finding, ...]) -> pa.RecordBatch:
    """Return an empty batch with the same columns that carries the findings."""
    metadata = {**(batch.schema.metadata or {}), _KEY: _FINDINGS.dump_json(findings)}
    return batch.slice(0, 0).replace_schema_metadata(metadata)


def findings_in(batch: pa.RecordBatch) -> tuple[Finding, ...]:
    """Return the findings that a batch carries."""
    data = (batch.schema.metadata or {}).get(_KEY)
    return _FINDINGS.validate_json(data) if data else ()
