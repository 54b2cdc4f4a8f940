"""The `target` of a job: the database that serves the vectors, and the registry of its kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tasks.domain.job.credentials import PLACE
from tasks.domain.job.gate import VECTOR_MODES, Gate
from tasks.domain.job.index import (
    IMPORT_ROWS,
    FullText,
    FullTextSetting,
    Index,
    LoadMethod,
    Parameters,
    VectorType,
    full_text_of,
    full_text_setting,
    why_not_stored,
)
from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.job.tls import Tls
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict

COLLECTION = r"^[A-Za-z_][A-Za-z0-9_]{0,245}$"


class StoredAs(Strict):
    """The storage options of a collection, as far as a kind of target has them."""

    vector_type: VectorType = "float32"
    index: Index = Index()
    partition_key: str | None = None  # a source column
    full_text: FullText | None = None


WithFullText = Annotated[FullTextSetting, BeforeValidator(full_text_setting)]
FULL_TEXT: Any = Field(
    "off",
    title="Full text",
    description="Full-text search (BM25) in addition to vectors, in a collection of its own. on: the standard analyzer."
    " Needs store_text, and Milvus Lite, Milvus 2.5 or later, or Zilliz Cloud.",
)


class TargetSettings(Strict):
    """Common settings of all kinds of targets."""

    kind: str = Field("", description="The kind of database.")
    collection: str = Field(
        "corpus",
        pattern=COLLECTION,
        description="Alias that searches use. The rows are in one collection per encoder, whose name begins with the alias.",
    )
    mode: Literal["append", "mirror"] = Field(
        "append",
        description="append: rows of changed files are replaced. mirror: rows of deleted files are removed as well.",
    )
    max_shrink: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of the collection's rows that a mirror may remove in one run. Above it, the run removes no rows and fails.",
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
    token_block: Annotated[str, Field(title="name")] | Nothing = Field(
        None, description="Name of a Prefect Secret block that holds the Milvus token. Replaces MILVUS_TOKEN."
    )
    metric: Literal["auto", "COSINE", "IP", "L2"] = Field(
        "auto",
        description="Similarity metric of the collection. auto: the metric in the model's own files (dot product: IP, Euclidean: L2),"
        " else COSINE; an existing collection keeps its own.",
    )
    search: Parameters = Field(
        default_factory=dict,
        title="Search parameters",
        description="Milvus search parameters, such as {ef: 128}. Empty: the server's defaults.",
    )
    load: LoadMethod = Field(
        "auto",
        title="Loading",
        description=(
            "How rows are loaded. upsert: by upsert requests. import: the server bulk-imports staged files into a new collection. auto: import if"
            f" `staging` is set and a new collection gets {IMPORT_ROWS:,} rows or more, else upsert."
        ),
    )
    load_from: Literal["flow", "hosts"] = Field(
        "flow",
        title="Load from",
        description="Machines that upsert rows. flow: the flow's machine. hosts: those of compute.engine, each over a connection of its own; their token"
        " comes from their own environment. A bulk import is always done by the flow.",
    )
    load_streams: int = Field(
        16,
        ge=1,
        le=1_000,
        title="Load streams",
        description="Maximum concurrent loads, each of a shard or a group of shards, over all machines.",
    )
    store_text: bool = Field(True, description="Store the embedded text in the collection, so that hits show it.")
    shared: bool = Field(
        False,
        description="Other writers have rows in the collection. Rows without a seal are then reported, but not as an error.",
    )
    id_length: int = Field(512, ge=1, le=65_535, description="Maximum key length in bytes. Rows with longer keys are quarantined.")

    token_variable: ClassVar[str] = ""  # environment variable of the token

    @property
    def address(self) -> str:
        """The address for people."""
        return self.kind

    @property
    def not_from_afar(self) -> str:
        """Why other machines than the flow's cannot load into it; empty: they can."""
        return "only the flow reads token_block: set the token in the environment of every host" if self.token_block else ""

    @property
    def place(self) -> dict[str, str]:
        """What distinguishes it from other targets of its kind. Its names must never change: old collections' ledgers are named by it."""
        return {"uri": self.address}

    @property
    def stored_as(self) -> StoredAs:
        """The storage options of its collections."""
        return StoredAs()

    @model_validator(mode="after")
    def _words_are_stored(self) -> Self:
        if self.gate and self.gate.mode not in VECTOR_MODES and not self.stored_as.full_text:
            raise ValueError(f"gate.mode {self.gate.mode} needs full text: set full_text: on, or gate.mode: dense")
        if self.stored_as.full_text and not self.store_text:
            raise ValueError("full_text searches the stored text: set store_text: true, or full_text: off")
        return self


DATABASE = r"[A-Za-z_][A-Za-z0-9_]*"  # names that Milvus allows
OWN_FIRST = ("kind", "uri", "collection")  # first fields of the run form


def _own_first(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    schema["properties"] = {**{name: properties[name] for name in OWN_FIRST}, **properties}


class MilvusSettings(TargetSettings):
    """Milvus Lite, a Milvus server or Zilliz Cloud."""

    model_config = ConfigDict(title="Milvus", json_schema_extra=_own_first)

    kind: Literal["milvus"] = Field("milvus", description="Milvus Lite, a Milvus server or Zilliz Cloud.")
    uri: str = Field(
        "./kitestring.db",
        title="Milvus",
        description="A Milvus Lite file (ends in .db), http:// or https://host:19530 (or grpc://, grpcs://), or a Zilliz Cloud endpoint."
        " The token comes from MILVUS_TOKEN.",
        json_schema_extra=PLACE,
    )
    tls: Tls | Nothing = Field(
        None,
        title="TLS",
        description="Certificates for a server with a private certificate authority, or that requires client certificates.",
    )
    database: str = Field("", description="Milvus database. Empty: the server's default.")
    vector_type: VectorType = Field(
        "float32",
        title="Vector type",
        description=(
            "Stored type of the vectors. Seals keep float32. float16 and bfloat16 need half the space (Milvus 2.4.5 or"
            " later), int8 a quarter (Milvus 2.6 or later, COSINE only)."
        ),
    )
    index: Index = Field(
        Index(),
        title="Index",
        description="Vector index. Built once, after a new collection is filled, and rebuilt by a later run if this setting changes.",
    )
    staging: str = Field(
        "",
        description=(
            "Where the Milvus server reads bulk-import files: a folder on its machine (local storage), or s3://bucket/prefix"
            " in the bucket that holds its data. Zilliz Cloud: any bucket that the AWS credentials of this process can read."
        ),
        json_schema_extra=PLACE,
    )
    partition_key: Annotated[str, Field(title="column")] | Nothing = Field(
        None,
        title="Partition key",
        description=(
            "Metadata column of integers or strings used as the Milvus partition key: a search that filters by one of its"
            " values, such as a tenant, reads only that partition. Milvus Lite, Milvus 2.4.3 or later."
        ),
    )
    full_text: WithFullText = FULL_TEXT

    token_variable: ClassVar[str] = "MILVUS_TOKEN"  # noqa: S105 - its name

    @model_validator(mode="after")
    def _database_is_a_setting(self) -> MilvusSettings:
        """Refuse a database in the address: the client uses it for some calls, and its own setting for others."""
        path = urlsplit(self.uri).path.strip("/") if self.uri.startswith(("http", "grpc")) else ""
        if re.fullmatch(DATABASE, path):
            raise ValueError(f"uri ends in '/{path}': remove that, and set database: {path} if it is meant as the database")
        return self

    @model_validator(mode="after")
    def _certificates_are_used(self) -> MilvusSettings:
        if self.tls and not self.uri.startswith(("https://", "grpcs://")):
            raise ValueError(f"uri '{self.uri}' is not a TLS address, so tls has no effect: write https://, or leave tls out")
        return self

    @model_validator(mode="after")
    def _vectors_can_be_stored(self) -> MilvusSettings:
        if reason := why_not_stored(self.vector_type, metric=self.metric, index=self.index):
            raise ValueError(reason)
        if self.load == "import" and self.vector_type != "float32":
            raise ValueError(f"load import fills float32 vectors, not {self.vector_type}: leave load at auto")
        return self

    @property
    def address(self) -> str:
        return self.uri

    @property
    def place(self) -> dict[str, str]:
        return {"uri": self.uri, "database": self.database}

    @property
    def not_from_afar(self) -> str:
        if self.uri.endswith(".db") and "://" not in self.uri:
            return f"the Milvus Lite file '{self.uri}' belongs to one process: give the uri of a server"
        if self.tls and (block := next((f"tls.{name}_block" for name, _, block in self.tls.places if block), None)):
            return f"only the flow reads {block}: give a file that is on every host"
        return super().not_from_afar

    @property
    def stored_as(self) -> StoredAs:
        return StoredAs(
            vector_type=self.vector_type, index=self.index, partition_key=self.partition_key, full_text=full_text_of(self.full_text)
        )


class MemorySettings(TargetSettings):
    """The memory of the process that runs the job, lost when it ends: for tests, and for trying a job out."""

    model_config = ConfigDict(title="Memory")

    kind: Literal["memory"] = Field("memory", description="The memory of the process that runs the job; lost when it ends.")
    uri: str = Field(
        "memory://",
        pattern=r"^memory://",
        description="memory://name: jobs with the same name share a memory.",
    )
    full_text: WithFullText = FULL_TEXT

    @property
    def address(self) -> str:
        return self.uri

    @property
    def place(self) -> dict[str, str]:
        return {"uri": self.uri, "database": ""}

    @property
    def not_from_afar(self) -> str:
        return "it is the memory of one process"

    @property
    def stored_as(self) -> StoredAs:
        return StoredAs(full_text=full_text_of(self.full_text))


def why_not_sparse(target: TargetSettings) -> str | None:
    """Return why a target's settings do not allow sparse vectors; None: they do."""
    stored = target.stored_as
    if target.metric not in ("auto", "IP"):
        return f"target.metric {target.metric} is for dense vectors: leave it at auto, which is the inner product (IP)"
    if stored.index != Index():
        return f"target.index {stored.index} is for dense vectors: leave it out, a sparse inverted index is built"
    if stored.vector_type != "float32":
        return f"target.vector_type {stored.vector_type} is for dense vectors: leave it at float32"
    if target.load == "import":
        return "target.load import is for dense vectors: leave it at auto"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind(Kind[TargetSettings]):
    """A kind of target.

    opens   "module:function" that makes a `tasks.domain.ports.Target` from its settings, a token or None, and a `ReadSecret`
    search  "module:function" of settings and CollectionSpec that returns an application's code for `search(words)`; "": none
    """

    opens: str
    search: str = ""


class TargetKinds(Kinds[TargetKind]):
    """The registry of targets. A uri memory:// without a kind has the kind memory."""

    def _validated(self, value: object) -> object:
        if isinstance(value, Mapping) and "kind" not in value and str(value.get("uri", "")).startswith("memory://"):
            value = {**value, "kind": "memory"}
        return super()._validated(value)


TARGETS = TargetKinds(
    "target",
    default="milvus",
    known={
        "milvus": TargetKind(
            settings=MilvusSettings,
            opens="tasks.adapters.milvus.milvus_target:open_milvus",
            search="tasks.adapters.targets.milvus_code:milvus_search",
        ),
        # The run form offers only Milvus: a deployment's process ends, and its memory with it.
        "memory": TargetKind(settings=MemorySettings, opens="tasks.adapters.targets.memory_target:open_memory", form=MilvusSettings),
    },
)
