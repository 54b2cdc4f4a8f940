"""Services that a job may use besides its checkpoint and its target; a run does without any of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tasks.domain.job.credentials import PLACE
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict

REDIS = r"^rediss?://[^\s/?#@]+(/[0-9]*)?$"
URL = r"^https?://[^\s?#@]+$"


class CacheSettings(Strict):
    """Vectors by the encoder's fingerprint and a digest of what was embedded; needs the extra `redis`. Valkey speaks the same protocol."""

    model_config = ConfigDict(title="Cache")

    uri: str = Field(
        description="redis://host:6379/0, or rediss:// for TLS. User and password: REDIS_USERNAME and REDIS_PASSWORD on every machine that encodes.",
        pattern=REDIS,
        json_schema_extra=PLACE,
    )
    ttl_days: float = Field(30, gt=0, le=3_650, description="Days after which an entry is forgotten.")
    deadline_ms: int = Field(
        50,
        ge=1,
        le=60_000,
        title="Deadline (ms)",
        description="Longest wait for 256 rows; after one that took longer the cache is not asked for 30 s.",
    )
    password_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block with the password, where the flow's own machine encodes. Replaces REDIS_PASSWORD."
    )


class MetricsSettings(Strict):
    """Metrics of runs by OpenTelemetry; needs the extra `metrics`."""

    model_config = ConfigDict(title="Metrics")

    exporter: Literal["otlp", "prometheus"] = Field(
        "otlp",
        description="otlp: metrics and traces are sent to a collector. prometheus: a run can be scraped at http://{host}:{port}/metrics.",
    )
    endpoint: Annotated[str, Field(pattern=URL, title="URL")] | Nothing = Field(
        None,
        description="otlp: the collector, such as http://collector:4318. Left out: OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL variables.",
        json_schema_extra=PLACE,
    )
    host: str = Field("127.0.0.1", description="prometheus: the address that is scraped. 0.0.0.0: every address of the machine.")
    port: int = Field(9464, ge=1, le=65_535, description="prometheus: the port that is scraped.")
    linger_seconds: float = Field(
        15,
        ge=0,
        le=600,
        description="prometheus: how long a run that was scraped waits at its end for the last scrape, so that no count is lost.",
    )


class LineageSettings(Strict):
    """OpenLineage events of runs: the source goes in, the collection comes out. Needs the extra `lineage`."""

    model_config = ConfigDict(title="Lineage")

    url: str = Field(
        description="Where events are posted to, such as http://marquez:5000. The key, if there is one: OPENLINEAGE_API_KEY.",
        pattern=URL,
        json_schema_extra=PLACE,
    )
    namespace: str = Field("kitestring", min_length=1, description="Namespace of the job.")
