"""Parameters that the flows share besides the job: overrides of single settings, and the token as a block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from prefect.blocks.system import Secret
from pydantic import Field, JsonValue

from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override

Overrides = dict[str, JsonValue]
DryRun = Annotated[bool, Field(json_schema_extra={"title": "Dry run"})]  # the label in the run form


def resolve_job(job: Job, overrides: Mapping[str, JsonValue] | None, token: Secret | None) -> Job:  # type: ignore[type-arg]
    """Apply overrides and the token to a job. Prefect stores a block parameter as a reference, never its content.

    Raises:
        BadInput: an override does not fit, or the token is not a saved block.
    """
    return override(job, {**(overrides or {}), **({"target.token_block": _name_of(token)} if token is not None else {})})


def _name_of(token: Secret) -> str:  # type: ignore[type-arg]
    name: str | None = getattr(token, "_block_document_name", None)  # Prefect has no public accessor
    if not name:
        raise BadInput("token: choose a saved Secret block; a token that is typed in would be stored in plain text")
    return name
