"""The JSON Schema of a job file, for editors."""

from __future__ import annotations

from typing import Any

from tasks.domain.job.job import Job


def job_schema() -> dict[str, Any]:
    """What an editor completes and checks by; a file may name its schema."""
    schema = Job.model_json_schema()
    names = {"type": "string", "description": "Where this schema is, for editors; Kitestring does not read it."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Kitestring job",
        "properties": {"$schema": names, **schema["properties"]},
    }
