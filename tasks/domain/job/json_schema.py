"""The JSON Schema of a job file, for editors."""

from __future__ import annotations

from typing import Any

from tasks.domain.job.job import Job


def job_schema() -> dict[str, Any]:
    """Return the schema by which editors complete and check a job file, which may refer to it by `$schema`."""
    schema = _as_written(Job.model_json_schema())
    reference = {"type": "string", "description": "Location of this schema, for editors; Kitestring does not read it."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Kitestring job",
        "properties": {"$schema": reference, **schema["properties"]},
    }


def _as_written(node: Any) -> Any:
    """Convert the run form's schema to a job file's: a single column is allowed for a list, and `text` as the name of a type."""
    if isinstance(node, list):
        return [_as_written(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {name: _as_written(value) for name, value in node.items()}
    if node.get("type") == "array" and node.get("title") == "columns":
        return {"anyOf": [{"type": "string", "title": "column"}, node]}
    if "varchar" in node.get("enum", ()):
        return {**node, "enum": [*node["enum"], "text", "text[]"]}
    return node
