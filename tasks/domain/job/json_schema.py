"""The JSON Schema of a job file, for editors."""

from __future__ import annotations

from typing import Any

from tasks.domain.job.job import Job


def job_schema() -> dict[str, Any]:
    """What an editor completes and checks by; a file may name its schema."""
    schema = _as_written(Job.model_json_schema())
    names = {"type": "string", "description": "Where this schema is, for editors; Kitestring does not read it."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Kitestring job",
        "properties": {"$schema": names, **schema["properties"]},
    }


def _as_written(node: Any) -> Any:
    """The schema of a form as that of a file: one column stands for a list of one, and a type may be called text."""
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
