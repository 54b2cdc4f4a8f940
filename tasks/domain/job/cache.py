"""A cache of vectors that corpora and machines share. It is never needed and never trusted blindly."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from tasks.domain.job.credentials import PLACE
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict


class CacheSettings(Strict):
    """Vectors by the encoder's fingerprint and a digest of what was embedded; needs the extra `redis`. Valkey speaks the same protocol."""

    model_config = ConfigDict(title="Cache")

    uri: str = Field(
        description="redis://host:6379/0, or rediss:// for TLS. User and password: REDIS_USERNAME and REDIS_PASSWORD on every machine that encodes.",
        pattern=r"^rediss?://[^\s/?#@]+(/[0-9]*)?$",
        json_schema_extra=PLACE,
    )
    ttl_days: float = Field(30, gt=0, le=3_650, description="Days after which an entry is forgotten.")
    deadline_ms: int = Field(
        50,
        ge=1,
        le=60_000,
        title="milliseconds",
        description="Longest wait for 256 rows; after one that took longer the cache is not asked for 30 s.",
    )
    password_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block with the password, where the flow's own machine encodes. Replaces REDIS_PASSWORD."
    )
