"""The job file: one schema for `kitestring run`, the Prefect form and `prefect deployment run`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import PLACE, settings_with_credentials
from tasks.domain.job.encoder import ENCODERS, Encoder, SentenceTransformersEncoder
from tasks.domain.job.engine import ClusterSettings, EngineChoice, LocalEngineSettings
from tasks.domain.job.services import CacheSettings, LineageSettings, MetricsSettings
from tasks.domain.job.source import AnySource, ParquetSource
from tasks.domain.job.target import TARGETS, MilvusSettings, TargetSettings, why_not_sparse
from tasks.domain.job.ui_schema import Auto, Count, Nothing
from tasks.domain.strict import Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
Switch = Annotated[bool, Field(title="boolean")]


class Compute(Strict):
    """Distribution of the work. The defaults were measured; see tests/benchmarks."""

    processes: Auto | Count = Field(
        "auto", description="Number of torchrun processes (ranks). auto: one per GPU, or one per CPU core up to 8."
    )
    threads: Auto | Count = Field("auto", description="CPU threads per process. auto: the cores divided by the processes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device that encodes. auto: all GPUs, or the CPU if there is none.")
    batch_tokens: Auto | Count = Field("auto", description="Tokens in one text batch, including padding. auto: measured for long runs.")
    batch_rows: Auto | Count = Field("auto", description="Maximum rows in one batch.")
    unsaved_rows: Auto | Annotated[int, Field(ge=2, title="number")] = Field(
        "auto",
        description="Maximum rows of a process that are not stored yet, and so the most that killing it can cost. A part has half"
        " as many rows: one part is uploaded while the next is encoded. auto: about ten seconds of work.",
    )
    num_workers: Auto | Annotated[int, Field(ge=0, title="number")] = Field("auto", description="Image decoding processes per rank.")
    pin_memory: Auto | Switch = Field("auto", description="Use pinned (page-locked) memory for copies to the GPU. auto: on GPUs.")
    exclusive: Auto | Switch = Field(
        "auto", description="Let only one run at a time encode on a device of this host; other runs wait. auto: on GPUs, not on CPUs."
    )
    limit: Annotated[str, Field(title="name")] | Nothing = Field(
        None,
        description="Name of a Prefect concurrency limit. Each run of the job waits for a slot and occupies it; with"
        " compute.engine.hosts: N, N of them.",
    )
    engine: EngineChoice = Field(default_factory=LocalEngineSettings, description="The machines that encode.")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="Inference backend. openvino: text on CPUs, needs the extra `openvino`."
        " auto: torch, or openvino if it is installed and measured to be faster; for precision int8 openvino on CPUs, torch (bitsandbytes) on GPUs.",
    )
    model_parallel: Literal["off", "fsdp"] = Field(
        "off",
        title="Model parallel",
        description="off: each process holds the whole model. fsdp: the processes of a machine share the weights of a text model and"
        " compute in step, for models that are larger than one device; needs encoder.precision float32, bfloat16 or float16.",
    )


class Shards(Strict):
    """Splitting of the source into shards."""

    rows: int = Field(50_000, ge=1, description="Target number of rows per shard. Row groups and compressed files are not split.")


class Failures(Strict):
    """Handling of rows and shards that fail."""

    max_quarantined: float = Field(0.01, ge=0, le=1, description="Largest share of rows that may be quarantined before the run fails.")
    on_duplicate: Literal["refuse", "first", "last"] = Field(
        "refuse",
        description="Handling of duplicate keys. refuse: the shard fails. first, last: that row in source order is kept, the others are counted.",
    )
    stall_seconds: float = Field(
        300, gt=0, description="Seconds without a heartbeat after which a process is killed and its rows are reassigned."
    )
    startup_seconds: float = Field(1800, gt=0, description="Seconds after which the run fails if no process has loaded the encoder.")
    retries: int = Field(2, ge=0, le=10, description="Number of retries of a shard after a transient error.")


class Report(Strict):
    """Contents of the report in addition to its figures."""

    price_per_hour: Annotated[float, Field(ge=0, title="dollars")] | Nothing = Field(
        None,
        title="Price per hour",
        description="Cost of this run's machines in dollars per hour. The report then shows the rows embedded per dollar.",
    )
    colour_by: Annotated[str, Field(title="column")] | Nothing = Field(
        None,
        title="Colour by",
        description="Metadata column that colours the map of the vectors. Left out: the first with few values.",
    )
    examples: int = Field(
        3, ge=0, le=5, description="Number of example searches in the report. 0: the report contains no rows and no vectors."
    )


class Job(Strict):
    """A corpus, the encoder that embeds it, and the collection that serves it."""

    corpus: str = Field("corpus", pattern=NAME, description="Name of the corpus; checkpoints are stored under it.")
    source: AnySource = Field(default_factory=ParquetSource, description="The source of the rows.")
    encoder: Encoder = Field(default_factory=SentenceTransformersEncoder, description="The model that turns a row into a vector.")
    checkpoint: str = Field(
        "./kitestring", description="Folder or s3://bucket/prefix for the sealed vectors and all state of the job.", json_schema_extra=PLACE
    )
    target: Annotated[TargetSettings, TARGETS] = Field(
        default_factory=MilvusSettings, title="Target", description="The database that serves the vectors."
    )
    compute: Compute = Field(default_factory=Compute, description="Distribution of the work.")
    shards: Shards = Field(default_factory=Shards, description="Splitting of the source into shards.")
    failures: Failures = Field(default_factory=Failures, description="Handling of rows and shards that fail.")
    cache: CacheSettings | Nothing = Field(
        None, description="A Redis server with vectors that corpora and machines share; runs work without it."
    )
    report: Report = Field(default_factory=Report, description="Contents of the report in addition to its figures.")
    metrics: MetricsSettings | Nothing = Field(
        None,
        description="Metrics of the run by OpenTelemetry. Left out: by the variables OTEL_METRICS_EXPORTER and OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    lineage: LineageSettings | Nothing = Field(None, description="OpenLineage events of the run.")

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, document: object) -> object:
        """Refuse credentials. Not by a ValueError: pydantic would include the input in the message, and Prefect would log it."""
        if settings := list(settings_with_credentials(document)):
            raise BadInput(
                f"'{settings[0]}' contains a password, a token or a key: remove it; credentials come from the environment "
                "(the AWS variables, MILVUS_TOKEN, ENCODER_TOKEN) or the Prefect Secret block that target.token_block or encoder.token_block names"
            )
        return document

    @model_validator(mode="after")
    def _colour_is_metadata(self) -> Job:
        columns = self.source.scalars
        column = self.report.colour_by
        if column is not None and column not in columns:
            listed = ", ".join(columns) or "it is empty"
            raise ValueError(f"report.colour_by '{column}' is not in source.metadata ({listed})")
        return self

    @model_validator(mode="after")
    def _partition_key_is_metadata(self) -> Job:
        columns = self.source.scalars
        column = self.target.stored_as.partition_key
        if column is not None and column not in columns:
            listed = ", ".join(columns) or "it is empty"
            raise ValueError(f"target.partition_key '{column}' is not in source.metadata ({listed}): add it there")
        return self

    @model_validator(mode="after")
    def _hosts_reach_the_target(self) -> Job:
        remote = isinstance(self.compute.engine, ClusterSettings) and self.target.load_from == "hosts"
        if remote and (why := self.target.not_from_afar):
            raise ValueError(f"target.load_from: hosts cannot load into this target: {why}, or set target.load_from: flow")
        return self

    @property
    def hosts_load(self) -> bool:
        """Whether other machines than the flow's load sealed shards."""
        return self.target.load_from == "hosts" and self.compute.engine.has_hosts

    @model_validator(mode="after")
    def _words_are_there(self) -> Job:
        if self.target.stored_as.full_text and self.source.modality != "text":
            raise ValueError("target.full_text searches the text of rows, and a corpus of images has none: set target.full_text: off")
        return self

    @model_validator(mode="after")
    def _sparse_vectors_fit(self) -> Job:
        if ENCODERS[self.encoder.kind].sparse and (reason := why_not_sparse(self.target)):
            raise ValueError(f"encoder.kind {self.encoder.kind} gives sparse vectors: {reason}")
        if ENCODERS[self.encoder.kind].sparse and self.cache is not None:
            raise ValueError(f"cache stores vectors of one length, and encoder.kind {self.encoder.kind} gives sparse ones: leave cache out")
        return self

    @model_validator(mode="after")
    def _weights_can_be_shared(self) -> Job:
        if self.compute.model_parallel == "off":
            return self
        setting, kind, precision = "compute.model_parallel fsdp", self.encoder.kind, self.encoder.precision
        if not ENCODERS[kind].shares_weights:
            able = " or ".join(f"'{name}'" for name in ENCODERS if ENCODERS[name].shares_weights)
            raise ValueError(f"{setting}: an encoder of kind '{kind}' cannot be split among processes: use kind {able}, or set it to off")
        if precision in {"auto", "int8", "float8"}:
            raise ValueError(
                f"{setting}: precision {precision} would load the whole model: set encoder.precision to float32, bfloat16 or float16"
            )
        if self.compute.backend == "openvino":
            raise ValueError(f"{setting} computes with torch: set compute.backend to auto or torch")
        return self

    @model_validator(mode="after")
    def _encoder_fits_source(self) -> Job:
        kind, name, modality = ENCODERS[self.encoder.kind], self.encoder.kind, self.source.modality
        if len(kind.modalities) > 1 and not self.source.states_modality:
            raise ValueError(f"an encoder of kind '{name}' embeds images or texts: set source.image or source.text")
        if modality not in kind.modalities:
            others = " or ".join(f"'{other}'" for other in ENCODERS if modality in ENCODERS[other].modalities)
            raise ValueError(
                f"an encoder of kind '{name}' embeds {' or '.join(kind.modalities)}, this source gives {modality}: "
                f"use encoder kind {others} or other source columns"
            )
        if self.source.chunking is not None and (reason := self.encoder.why_no_chunks):
            raise ValueError(f"source.chunks: {reason}")
        return self
