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
Switch = Annotated[bool, Field(title="boolean")]
COLLECTION = r"^[A-Za-z_][A-Za-z0-9_]{0,245}$"


class Target(Strict):
    """Where the vectors are served."""

    uri: str = Field(
        "./kitestring.db",
        title="Milvus",
        description="A Milvus Lite file (ends in .db), http://host:19530, or a Zilliz Cloud endpoint. The token comes from MILVUS_TOKEN.",
        json_schema_extra=PLACE,
    )
    collection: str = Field(
        "corpus",
        pattern=COLLECTION,
        description="Alias that searches use. The rows are in one collection per encoder, named after it.",
    )
    mode: Literal["append", "mirror"] = Field(
        "append",
        description="append: rows of changed files are replaced. mirror: rows of deleted files are removed as well.",
    )
    max_shrink: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of the collection's rows that a mirror may remove in one run. Above it, the run removes none and fails.",
    )
    allow_shrink: bool = Field(False, description="Allow a mirror to remove more than max_shrink. It never removes everything.")
    promote: Literal["auto", "manual"] = Field(
        "auto",
        description="When the alias moves to a new encoder's collection. auto: at the end of the run that verifies it. manual: by `kitestring promote`.",
    )
    gate: Gate | Nothing = Field(
        None, title="Gate", description="Retrieval quality that a new encoder's collection must reach before the alias moves to it."
    )
    keep_previous: int = Field(1, ge=0, description="Number of previous encoders' collections to keep for rollback.")
    grace: float = Field(24.0, ge=0, description="Hours to keep a collection after the alias moved away from it.")
    database: str = Field("", description="Milvus database. Empty: the server's default.")
    token_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block that holds the Milvus token. Replaces MILVUS_TOKEN."
    )
    metric: Literal["COSINE", "IP", "L2"] = Field("COSINE", description="Similarity metric of the collection.")
    vector_type: VectorType = Field(
        "float32",
        title="Vector type",
        description="How the collection stores vectors. Seals keep float32. float16 and bfloat16 need half the space (Milvus 2.4.5 or"
        " later), int8 a quarter (Milvus 2.6 or later, COSINE only).",
    )
    index: Index = Field(Index(), title="Index", description="Vector index. Built once, after a new collection is filled.")
    search: Parameters = Field(
        default_factory=dict,
        title="Search parameters",
        description="Milvus search parameters, such as {ef: 128}. Empty: the server's defaults.",
    )
    load: Way = Field(
        "auto",
        title="Loading",
        description="How rows reach Milvus. upsert: by calls. import: the server bulk-imports staged files into a new collection. auto: import if"
        f" `staging` is set and a new collection gets {IMPORT_ROWS:,} rows or more, else upsert.",
    )
    staging: str = Field(
        "",
        description="Where the Milvus server reads bulk-import files: a folder on its machine (local storage), or s3://bucket/prefix"
        " in the bucket that holds its data. Zilliz Cloud: any bucket that the AWS credentials of this process can read.",
        json_schema_extra=PLACE,
    )
    store_text: bool = Field(True, description="Store the embedded text in the collection, so that hits show it.")
    shared: bool = Field(
        False,
        description="Other writers keep rows in the collection. Rows without a seal are then reported but are no error.",
    )
    id_length: int = Field(512, ge=1, le=65_535, description="Maximum key length in bytes. Rows with longer keys are quarantined.")
    partition_key: Annotated[str, Field(title="column")] | Nothing = Field(
        None,
        title="Partition key",
        description="Metadata column of integers or strings used as the Milvus partition key: a search that filters by one of its"
        " values, such as a tenant, reads only that partition. Milvus Lite, Milvus 2.4.3 or later.",
    )

    @model_validator(mode="after")
    def _vectors_can_be_stored(self) -> Target:
        if reason := why_not_stored(self.vector_type, metric=self.metric, index=self.index):
            raise ValueError(reason)
        if self.load == "import" and self.vector_type != "float32":
            raise ValueError(f"load import fills float32 vectors, not {self.vector_type}: leave load at auto")
        return self


class Compute(Strict):
    """How the work is distributed. The defaults were measured; see tests/benchmarks."""

    processes: Auto | Count = Field(
        "auto", description="Number of torchrun processes (ranks). auto: one per GPU, or one per CPU core up to 8."
    )
    threads: Auto | Count = Field("auto", description="CPU threads per process. auto: the cores divided by the processes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device that encodes. auto: all GPUs, or the CPU if there is none.")
    batch_tokens: Auto | Count = Field("auto", description="Tokens in one text batch, padding included. auto: measured for long runs.")
    batch_rows: Auto | Count = Field("auto", description="Maximum rows in one batch.")
    unsaved_rows: Auto | Annotated[int, Field(ge=2, title="number")] = Field(
        "auto",
        description="Maximum rows that a process holds before they are stored, and so the most that killing it can cost. A part has half"
        " as many rows: one part is uploaded while the next is encoded. auto: about ten seconds of work.",
    )
    num_workers: Auto | Annotated[int, Field(ge=0, title="number")] = Field("auto", description="Image decoding processes per rank.")
    pin_memory: Auto | Switch = Field("auto", description="Use pinned (page-locked) memory for copies to the GPU. auto: on GPUs.")
    exclusive: Auto | Switch = Field(
        "auto", description="Let only one run at a time encode on a device of this host; other runs wait. auto: on GPUs, not on CPUs."
    )
    limit: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect concurrency limit. Each run of the job waits for a slot and holds it."
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="Inference backend. openvino: text on CPUs, needs the extra `openvino`."
        " auto: torch, or openvino if it is installed and measured to be faster.",
    )


class Shards(Strict):
    """How the source is split into shards."""

    rows: int = Field(50_000, ge=1, description="Target number of rows per shard. Row groups and compressed files are not split.")


class Failures(Strict):
    """How rows and shards that fail are handled."""

    max_quarantined: float = Field(0.01, ge=0, le=1, description="Largest share of rows that may be quarantined before the run fails.")
    on_duplicate: Literal["refuse", "first", "last"] = Field(
        "refuse",
        description="What happens to duplicate keys. refuse: the shard fails. first, last: that row in source order is kept, the others are counted.",
    )
    stall_seconds: float = Field(
        300, gt=0, description="Seconds without a heartbeat after which a process is killed and its rows are given to others."
    )
    startup_seconds: float = Field(1800, gt=0, description="Seconds after which the run fails if no process has loaded the encoder.")
    retries: int = Field(2, ge=0, le=10, description="Number of retries of a shard after a transient error.")


class Report(Strict):
    """What the report shows in addition to its figures."""

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
    source: Source = Field(default_factory=ParquetSource, description="Where the rows come from.")
    encoder: Encoder = Field(default_factory=SentenceTransformersEncoder, description="The model that turns a row into a vector.")
    checkpoint: str = Field(
        "./kitestring", description="Folder or s3://bucket/prefix for the sealed vectors and all state of the job.", json_schema_extra=PLACE
    )
    target: Target = Field(default_factory=Target, description="Where the vectors are served.")
    compute: Compute = Field(default_factory=Compute, description="How the work is distributed.")
    shards: Shards = Field(default_factory=Shards, description="How the source is split into shards.")
    failures: Failures = Field(default_factory=Failures, description="How rows and shards that fail are handled.")
    report: Report = Field(default_factory=Report, description="What the report shows in addition to its figures.")

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, document: object) -> object:
        """Not a ValueError: pydantic would include the input in the message, and Prefect would log it."""
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
