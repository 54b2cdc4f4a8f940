"""Optional services of a job besides its checkpoint and its target; a run works without them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tasks.domain.job.credentials import PLACE
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict

REDIS = r"^rediss?://[^\s/?#@]+(/[0-9]*)?$"
URL = r"^https?://[^\s?#@]+$"


class CacheSettings(Strict):
    """Vectors by the encoder's fingerprint and a digest of the content; needs the extra `redis`. Valkey works as well."""

    model_config = ConfigDict(title="Cache")

    uri: str = Field(
        description="redis://host:6379/0, or rediss:// for TLS. User and password: REDIS_USERNAME and REDIS_PASSWORD on every machine that encodes.",
        pattern=REDIS,
        json_schema_extra=PLACE,
    )
    ttl_days: float = Field(30, gt=0, le=3_650, description="Days after which an entry expires.")
    deadline_ms: int = Field(
        50,
        ge=1,
        le=60_000,
        title="Deadline (ms)",
        description="Longest wait for 256 rows; after a timeout the cache is not queried for 30 s.",
    )
    password_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block with the password, if the flow's own machine encodes. Replaces REDIS_PASSWORD."
    )


class MetricsSettings(Strict):
    """Metrics of runs by OpenTelemetry; needs the extra `metrics`."""

    model_config = ConfigDict(title="Metrics")

    exporter: Literal["otlp", "prometheus"] = Field(
        "otlp",
        description="otlp: send metrics and traces to a collector. prometheus: serve metrics at http://{host}:{port}/metrics.",
    )
    endpoint: Annotated[str, Field(pattern=URL, title="URL")] | Nothing = Field(
        None,
        description="otlp: the collector, such as http://collector:4318. Left out: OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL variables.",
        json_schema_extra=PLACE,
    )
    host: str = Field("127.0.0.1", description="prometheus: the address to listen on. 0.0.0.0: every address of the machine.")
    port: int = Field(9464, ge=1, le=65_535, description="prometheus: the port to listen on.")
    linger_seconds: float = Field(
        15,
        ge=0,
        le=600,
        description="prometheus: how long a run that was scraped before waits at its end for a last scrape, so that no count is lost.",
    )


class LineageSettings(Strict):
    """OpenLineage events of runs, with the source as input and the collection as output. Needs the extra `lineage`."""

    model_config = ConfigDict(title="Lineage")

    url: str = Field(
        description="The receiver of events, such as http://marquez:5000. The key, if there is one: OPENLINEAGE_API_KEY.",
        pattern=URL,
        json_schema_extra=PLACE,
    )
    namespace: str = Field("kitestring", min_length=1, description="Namespace of the job.")
