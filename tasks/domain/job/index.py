"""The index and the type of a collection's vectors, and the servers that support them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tasks.domain.errors import BadInput
from tasks.domain.strict import Strict

IndexType = Literal["AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ", "HNSW", "HNSW_SQ", "SCANN", "DISKANN"]
Parameters = dict[str, int | float | str | bool]
ServerKind = Literal["Milvus Lite", "Milvus", "Zilliz Cloud"]
VectorType = Literal["float32", "float16", "bfloat16", "int8"]
LoadMethod = Literal["auto", "upsert", "import"]

IMPORT_ROWS = 200_000  # from which on `auto` imports: chosen, not yet measured; see tests/benchmarks/README.md

# First Milvus version with the index, from the release notes. AUTOINDEX, FLAT, IVF and HNSW are older than any supported server.
SINCE: dict[IndexType, tuple[int, int]] = {"SCANN": (2, 3), "DISKANN": (2, 2), "HNSW_SQ": (2, 5), "IVF_RABITQ": (2, 6)}
# Milvus Lite 3.2 accepts every name; for an index that it lacks, it fails when it builds the index, or never.
LITE: frozenset[IndexType] = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ"})
ZILLIZ: frozenset[IndexType] = frozenset({"AUTOINDEX"})
# 2.3.5 creates a collection of float16, accepts its rows, and finds each at an infinite distance. AUTOINDEX supports them since 2.4.5.
VECTORS_SINCE: dict[VectorType, tuple[int, int, int]] = {"float16": (2, 4, 5), "bfloat16": (2, 4, 5), "int8": (2, 6, 0)}
# Usual values of parameters that a server requires for an index, used if the job does not set them.
BUILD_DEFAULTS: dict[IndexType, Parameters] = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "HNSW_SQ": {"M": 16, "efConstruction": 200, "sq_type": "SQ8"},
    "IVF_FLAT": {"nlist": 1024},
    "IVF_SQ8": {"nlist": 1024},
    "IVF_PQ": {"nlist": 1024, "nbits": 8},
    "IVF_RABITQ": {"nlist": 1024},
    "SCANN": {"nlist": 1024},
}
INT8_INDEXES: frozenset[IndexType] = frozenset({"AUTOINDEX", "HNSW", "HNSW_SQ"})  # the only ones that Milvus builds for int8


class Index(Strict):
    """The vector index. AUTOINDEX leaves the choice to the server, which knows its version and the size of each segment."""

    type: IndexType = Field("AUTOINDEX", title="Type", description="Milvus index type. AUTOINDEX: the server chooses. FLAT: exact search.")
    params: Parameters = Field(
        default_factory=dict, title="Build parameters", description="Milvus build parameters, such as {M: 32, efConstruction: 360}."
    )

    def __str__(self) -> str:
        return " ".join([self.type, *(f"{name}={value}" for name, value in self.params.items())])

    def build_params(self, dim: int) -> Parameters:
        """Return the build parameters: the job's values, completed by the usual ones."""
        usual = dict(BUILD_DEFAULTS.get(self.type, {}))
        if self.type == "IVF_PQ":  # sub-vectors: a divisor of the dimensions, if possible with 4 or more dimensions each
            usual["m"] = max(part for part in range(1, max(1, dim // 4) + 1) if dim % part == 0)
        return {**usual, **self.params}


class FullText(Strict):
    """Full-text search: the server splits each text with an analyzer, and ranks by BM25."""

    model_config = ConfigDict(title="with an analyzer")

    analyzer: dict[str, Any] = Field(
        default_factory=dict,
        title="Analyzer",
        description="Milvus analyzer settings, such as {type: english}. Empty: words of letters and digits, in lower case."
        " Milvus Lite has the tokenizers standard and jieba with the filters lowercase and stop.",
    )

    @property
    def params(self) -> dict[str, Any]:
        """The analyzer settings of the text field."""
        return self.analyzer or {"tokenizer": "standard", "filter": ["lowercase"]}

    def __str__(self) -> str:
        return json.dumps(self.params, ensure_ascii=False)


FullTextSetting = Annotated[Literal["off", "on"], Field(title="off or on")] | FullText


def full_text_setting(value: object) -> object:
    """Accept booleans, because YAML reads on and off as such."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def full_text_of(setting: FullTextSetting) -> FullText | None:
    """Return the full-text settings of a collection; None: it has no full-text search."""
    if isinstance(setting, FullText):
        return setting
    return FullText() if setting == "on" else None


@dataclass(frozen=True, slots=True)
class Server:
    """The kind and version that a server reports."""

    kind: ServerKind
    version: str = ""

    @property
    def number(self) -> tuple[int, int, int]:
        """(major, minor, patch); an unreadable version counts as new, because the server itself will refuse what it lacks."""
        match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", self.version)
        return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (99, 0, 0)

    def __str__(self) -> str:
        return f"{self.kind} {self.version.removeprefix('v')}".strip()


def check_index(index: Index, server: Server) -> None:
    """Check, before anything is encoded, that a server has the index.

    Raises:
        BadInput: names the index, the server, and what to choose.
    """
    supported = {"Milvus Lite": LITE, "Zilliz Cloud": ZILLIZ}.get(server.kind)
    if supported is not None and index.type not in supported:
        raise BadInput(f"target.index.type: {server} has no {index.type}: choose one of {', '.join(sorted(supported))}")
    since = SINCE.get(index.type, (0, 0))
    if server.kind == "Milvus" and server.number < since:
        raise BadInput(
            f"target.index.type: {index.type} needs Milvus {since[0]}.{since[1]}, and this is {server}: choose HNSW, or leave it at AUTOINDEX"
        )


def why_not_stored(vectors: VectorType, *, metric: str, index: Index) -> str | None:
    """Return why a vector type cannot be used with a metric or an index on any server; None: it can.

    int8 scales each vector so that its largest component is 127, because it cannot store numbers such as 0.03. Cosine
    similarity is unchanged; inner products and distances of differently scaled vectors are meaningless.
    """
    if vectors != "int8":
        return None
    if metric not in {"auto", "COSINE"}:
        return f"vector_type int8 works only with metric COSINE, not with {metric}: choose float16, or COSINE"
    if index.type not in INT8_INDEXES:
        return f"vector_type int8 has no index {index.type}: choose one of {', '.join(sorted(INT8_INDEXES))}"
    return None


def check_vector_type(vectors: VectorType, server: Server) -> None:
    """Check, before anything is encoded, that a server stores the vector type.

    Raises:
        BadInput: names the type, the server, and what to choose.
    """
    if vectors != "float32" and server.kind == "Milvus Lite":
        raise BadInput(f"target.vector_type: Milvus Lite has no {vectors} vectors: leave it at float32, or use a Milvus server")
    since = VECTORS_SINCE.get(vectors, (0, 0, 0))
    if server.kind == "Milvus" and server.number < since:
        fitting = "float16, bfloat16 or float32" if server.number >= VECTORS_SINCE["float16"] else "float32"
        needed = ".".join(map(str, since))
        raise BadInput(f"target.vector_type: {vectors} needs Milvus {needed}, and this is {server}: choose {fitting}")
