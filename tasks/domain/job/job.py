"""The job file: one schema behind `kitestring run`, the Prefect form and `prefect deployment run`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import PLACE, settings_with_credentials
from tasks.domain.job.encoder import ENCODERS, Encoder, SentenceTransformersEncoder
from tasks.domain.job.engine import EngineChoice, LocalEngineSettings
from tasks.domain.job.source import ParquetSource, Source
from tasks.domain.job.target import TARGETS, MilvusSettings, TargetSettings
from tasks.domain.job.ui_schema import Auto, Count, Nothing
from tasks.domain.strict import Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
Switch = Annotated[bool, Field(title="yes or no")]


class Compute(Strict):
    """How the work is spread. The defaults were measured; see tests/benchmarks."""

    processes: Auto | Count = Field("auto", description="torchrun processes: auto is one per GPU, or one per CPU core up to 8.")
    threads: Auto | Count = Field("auto", description="CPU threads per process: auto shares the cores.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: every GPU there is, else the CPU.")
    batch_tokens: Auto | Count = Field("auto", description="Tokens in one batch of text, padding counted.")
    batch_rows: Auto | Count = Field("auto", description="Most rows in one batch.")
    unsaved_rows: Auto | Annotated[int, Field(ge=2, title="number")] = Field(
        "auto",
        description="Rows that a process may hold before they are safe, which is the most that killing it can cost. A part has half"
        " as many: one is written while the next is encoded. auto: about ten seconds of work.",
    )
    num_workers: Auto | Annotated[int, Field(ge=0, title="number")] = Field("auto", description="Processes per rank that decode images.")
    pin_memory: Auto | Switch = Field("auto", description="Page-locked buffers for copies to the GPU; auto: on a GPU.")
    exclusive: Auto | Switch = Field(
        "auto", description="Whether one run at a time encodes on a device of this host; others wait. auto: on GPUs, not on CPUs."
    )
    limit: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect concurrency limit; every run of the job holds a slot of it, and waits for one."
    )
    engine: EngineChoice = Field(default_factory=LocalEngineSettings, description="Which machines encode.")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="What runs the model. openvino: text on a CPU, with the extra of that name installed."
        " auto: torch, or openvino where it is installed and measured to be faster.",
    )


class Shards(Strict):
    """How the source is cut."""

    rows: int = Field(50_000, ge=1, description="Rows that a shard aims at; row groups and files are not cut.")


class Failures(Strict):
    """What is done about rows and shards that do not work."""

    max_quarantined: float = Field(0.01, ge=0, le=1, description="Share of rows that may be set aside before the run fails.")
    on_duplicate: Literal["refuse", "first", "last"] = Field(
        "refuse",
        description="A key that comes twice: refuse the shard, or keep the first or the last row in the source's order and count the rest.",
    )
    stall_seconds: float = Field(
        300, gt=0, description="A process that says nothing about its batch for so long is ended and its rows given to others."
    )
    startup_seconds: float = Field(
        1800, gt=0, description="The run fails where no process has loaded the encoder so long after they were started."
    )
    retries: int = Field(2, ge=0, le=10, description="How often a shard is tried again after a passing fault.")


class Report(Strict):
    """What the report shows beyond the figures."""

    price_per_hour: Annotated[float, Field(ge=0, title="dollars")] | Nothing = Field(
        None,
        title="Price per hour",
        description="What the machines of this run cost by the hour, in dollars; with it the report says how many rows a dollar buys.",
    )
    colour_by: Annotated[str, Field(title="column")] | Nothing = Field(
        None,
        title="Colour by",
        description="Metadata column by which the picture of the vectors is coloured. Left out: the first with few values.",
    )
    examples: int = Field(
        3, ge=0, le=5, description="Searches that are shown with their hits; 0: the report shows neither rows nor their vectors."
    )


class Job(Strict):
    """A corpus, the encoder that embeds it, and the collection that it is searched in."""

    corpus: str = Field("corpus", pattern=NAME, description="The name under which checkpoints are kept.")
    source: Source = Field(default_factory=ParquetSource, description="Where the rows are.")
    encoder: Encoder = Field(default_factory=SentenceTransformersEncoder, description="What turns a row into a vector.")
    checkpoint: str = Field(
        "./kitestring", description="Folder or s3://bucket/prefix in which vectors are sealed.", json_schema_extra=PLACE
    )
    target: Annotated[TargetSettings, TARGETS] = Field(
        default_factory=MilvusSettings, title="Target", description="Where the vectors are searched."
    )
    compute: Compute = Field(default_factory=Compute, description="How the work is spread.")
    shards: Shards = Field(default_factory=Shards, description="How the source is cut.")
    failures: Failures = Field(default_factory=Failures, description="What is done about what does not work.")
    report: Report = Field(default_factory=Report, description="What the report shows beyond the figures.")

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, document: object) -> object:
        """No ValueError: pydantic would tell it with the input, and Prefect would log that."""
        if settings := list(settings_with_credentials(document)):
            raise BadInput(
                f"'{settings[0]}' holds a password, a token or a key: take it out; credentials come from the environment "
                "(the AWS variables, MILVUS_TOKEN) or the Prefect Secret block that target.token_block names"
            )
        return document

    @model_validator(mode="after")
    def _colour_is_metadata(self) -> Job:
        columns = self.source.scalars
        wanted = self.report.colour_by
        if wanted is not None and wanted not in columns:
            there = ", ".join(columns) or "it is empty"
            raise ValueError(f"report.colour_by '{wanted}' is not in source.metadata ({there})")
        return self

    @model_validator(mode="after")
    def _partition_key_is_metadata(self) -> Job:
        columns = self.source.scalars
        wanted = self.target.stored_as.partition_key
        if wanted is not None and wanted not in columns:
            there = ", ".join(columns) or "it is empty"
            raise ValueError(f"target.partition_key '{wanted}' is not in source.metadata ({there}): add it there")
        return self

    @model_validator(mode="after")
    def _encoder_fits_source(self) -> Job:
        kind, name, modality = ENCODERS[self.encoder.kind], self.encoder.kind, self.source.modality
        if len(kind.modalities) > 1 and not self.source.states_modality:
            raise ValueError(f"an encoder of kind '{name}' embeds pictures or texts: say which with source.image or source.text")
        if modality not in kind.modalities:
            others = " or ".join(f"'{other}'" for other in ENCODERS if modality in ENCODERS[other].modalities)
            raise ValueError(
                f"an encoder of kind '{name}' embeds {' or '.join(kind.modalities)}, this source gives {modality}: "
                f"use encoder kind {others} or other source columns"
            )
        return self
