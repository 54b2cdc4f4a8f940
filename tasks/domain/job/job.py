"""The job file: one schema behind `kitestring run`, the Prefect form and `prefect deployment run`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import PLACE, settings_with_credentials
from tasks.domain.job.encoder import Encoder, OpenClipEncoder, SentenceTransformersEncoder
from tasks.domain.job.gate import Gate
from tasks.domain.job.index import IMPORT_ROWS, Index, Parameters, VectorType, Way, why_not_stored
from tasks.domain.job.source import ParquetSource, Source, TabularSource
from tasks.domain.job.ui_schema import Auto, Count, Nothing
from tasks.domain.strict import Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
Switch = Annotated[bool, Field(title="yes or no")]
COLLECTION = r"^[A-Za-z_][A-Za-z0-9_]{0,245}$"


class Target(Strict):
    """Where the vectors are searched."""

    uri: str = Field(
        "./kitestring.db",
        title="Milvus",
        description="A Milvus Lite file (ends in .db), http://host:19530, or a Zilliz Cloud endpoint. The token comes from MILVUS_TOKEN.",
        json_schema_extra=PLACE,
    )
    collection: str = Field(
        "corpus",
        pattern=COLLECTION,
        description="The name that searches use: an alias; the rows live in a collection of their own for each encoder.",
    )
    mode: Literal["append", "mirror"] = Field(
        "append",
        description="append: rows of changed files are replaced. mirror: rows of files that are gone are removed as well.",
    )
    max_shrink: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the collection's rows that a mirror may remove in one run; with more it removes none and fails.",
    )
    allow_shrink: bool = Field(False, description="Let a mirror remove more than max_shrink; never everything.")
    promote: Literal["auto", "manual"] = Field(
        "auto", description="Searches are led to a new encoder's collection by the run that proves it, or by `kitestring promote`."
    )
    gate: Gate | Nothing = Field(
        None, title="Gate", description="Questions that a new encoder's collection has to answer well enough first."
    )
    keep_previous: int = Field(1, ge=0, description="How many collections of earlier encoders are kept, to roll back to.")
    grace: float = Field(24.0, ge=0, description="Hours for which any collection that searches have left is kept.")
    database: str = Field("", description="Milvus database; left empty, the server's default.")
    token_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block that holds the token, instead of MILVUS_TOKEN."
    )
    metric: Literal["COSINE", "IP", "L2"] = Field("COSINE", description="How two vectors are compared.")
    vector_type: VectorType = Field(
        "float32",
        title="Vector type",
        description="How the collection stores vectors; seals keep float32. float16 and bfloat16 take half the room (Milvus 2.4.5 and"
        " later), int8 a quarter (2.6 and later, COSINE alone).",
    )
    index: Index = Field(Index(), title="Index", description="Of the vectors; made once, after a fresh collection is filled.")
    search: Parameters = Field(
        default_factory=dict, title="Search parameters", description="As Milvus names them, such as {ef: 128}; empty: the server's own."
    )
    load: Way = Field(
        "auto",
        title="Loading",
        description="upsert; import: a fresh collection is filled by the server from staged files; auto: import where `staging` is"
        f" set and {IMPORT_ROWS:,} rows or more go into a fresh collection.",
    )
    staging: str = Field(
        "",
        description="Where the Milvus server reads files that it imports: a folder of its machine (local storage), or s3://bucket/prefix"
        " in the bucket that it keeps its data in; for Zilliz Cloud any bucket that the AWS keys of this process open.",
        json_schema_extra=PLACE,
    )
    store_text: bool = Field(True, description="Keep the embedded text in the collection, to show it with a hit.")
    shared: bool = Field(
        False,
        description="Others keep rows of their own in the collection: those that no seal accounts for are told, and no fault.",
    )
    id_length: int = Field(512, ge=1, le=65_535, description="Longest key in bytes; a row with a longer one is set aside.")
    partition_key: Annotated[str, Field(title="column")] | Nothing = Field(
        None,
        title="Partition key",
        description="Metadata column of whole numbers or texts by which Milvus lays rows together: a search whose filter names one of"
        " its values, such as a tenant, reads only those. Milvus Lite, Milvus 2.4.3 and later.",
    )

    @model_validator(mode="after")
    def _vectors_can_be_stored(self) -> Target:
        if reason := why_not_stored(self.vector_type, metric=self.metric, index=self.index):
            raise ValueError(reason)
        if self.load == "import" and self.vector_type != "float32":
            raise ValueError(f"load import fills float32 vectors, not {self.vector_type}: leave load at auto")
        return self


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
    target: Target = Field(default_factory=Target, description="Where the vectors are searched.")
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
        columns: list[str] = getattr(self.source, "metadata", [])
        wanted = self.report.colour_by
        if wanted is not None and wanted not in columns:
            there = ", ".join(columns) or "it is empty"
            raise ValueError(f"report.colour_by '{wanted}' is not in source.metadata ({there})")
        return self

    @model_validator(mode="after")
    def _partition_key_is_metadata(self) -> Job:
        columns: list[str] = getattr(self.source, "metadata", [])
        if self.target.partition_key is not None and self.target.partition_key not in columns:
            there = ", ".join(columns) or "it is empty"
            raise ValueError(f"target.partition_key '{self.target.partition_key}' is not in source.metadata ({there}): add it there")
        return self

    @model_validator(mode="after")
    def _encoder_fits_source(self) -> Job:
        source = self.source
        if isinstance(self.encoder, OpenClipEncoder):
            if isinstance(source, TabularSource) and source.text is None and source.image is None:
                raise ValueError("an encoder of kind 'open-clip' embeds pictures or texts: say which with source.image or source.text")
        elif source.modality != "text":
            raise ValueError(
                f"an encoder of kind '{self.encoder.kind}' embeds text, this source gives {source.modality}: "
                "use encoder kind 'open-clip' or other source columns"
            )
        return self
