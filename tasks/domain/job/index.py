"""Which index and which type a collection's vectors get, and which servers have them."""

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

IMPORT_ROWS = 200_000  # from here on `auto` imports: a choice, not yet a measured one; see tests/benchmarks/README.md

# Since which version a server has it: Milvus' release notes. AUTOINDEX, FLAT, IVF and HNSW are older than any server we meet.
SINCE: dict[IndexType, tuple[int, int]] = {"SCANN": (2, 3), "DISKANN": (2, 2), "HNSW_SQ": (2, 5), "IVF_RABITQ": (2, 6)}
# Milvus Lite 3.2 takes every name, and says only when it builds that it lacks the index, or never.
LITE: frozenset[IndexType] = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ"})
ZILLIZ: frozenset[IndexType] = frozenset({"AUTOINDEX"})
# 2.3.5 makes a collection of float16, takes its rows, and finds every one at an infinite distance. AUTOINDEX knows them since 2.4.5.
VECTORS_SINCE: dict[VectorType, tuple[int, int, int]] = {"float16": (2, 4, 5), "bfloat16": (2, 4, 5), "int8": (2, 6, 0)}
# What a server refuses to build an index without: usual values, for those that a job does not set.
BUILD_DEFAULTS: dict[IndexType, Parameters] = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "HNSW_SQ": {"M": 16, "efConstruction": 200, "sq_type": "SQ8"},
    "IVF_FLAT": {"nlist": 1024},
    "IVF_SQ8": {"nlist": 1024},
    "IVF_PQ": {"nlist": 1024, "nbits": 8},
    "IVF_RABITQ": {"nlist": 1024},
    "SCANN": {"nlist": 1024},
}
INT8_INDEXES: frozenset[IndexType] = frozenset({"AUTOINDEX", "HNSW", "HNSW_SQ"})  # Milvus builds no other over int8


class Index(Strict):
    """How the vectors are indexed. AUTOINDEX leaves the choice to the server, which knows its version and the size of each segment."""

    type: IndexType = Field("AUTOINDEX", title="Type", description="Milvus index type. AUTOINDEX: the server chooses. FLAT: exact search.")
    params: Parameters = Field(
        default_factory=dict, title="Build parameters", description="Milvus build parameters, such as {M: 32, efConstruction: 360}."
    )

    def __str__(self) -> str:
        return " ".join([self.type, *(f"{name}={value}" for name, value in self.params.items())])

    def build_params(self, dim: int) -> Parameters:
        """What the index is built with: the job's own values, and the usual ones for those that it leaves out."""
        usual = dict(BUILD_DEFAULTS.get(self.type, {}))
        if self.type == "IVF_PQ":  # parts of a vector: a divisor of its dimensions, four or more to a part where that is possible
            usual["m"] = max(part for part in range(1, max(1, dim // 4) + 1) if dim % part == 0)
        return {**usual, **self.params}


class FullText(Strict):
    """Search by words: the server splits each text with an analyzer, and ranks by BM25."""

    model_config = ConfigDict(title="with an analyzer")

    analyzer: dict[str, Any] = Field(
        default_factory=dict,
        title="Analyzer",
        description="Milvus analyzer settings, such as {type: english}. Empty: words of letters and digits, in lower case."
        " Milvus Lite has the tokenizers standard and jieba with the filters lowercase and stop.",
    )

    @property
    def params(self) -> dict[str, Any]:
        """What the text field is made with."""
        return self.analyzer or {"tokenizer": "standard", "filter": ["lowercase"]}

    def __str__(self) -> str:
        return json.dumps(self.params, ensure_ascii=False)


FullTextSetting = Annotated[Literal["off", "on"], Field(title="off or on")] | FullText


def full_text_setting(value: object) -> object:
    """YAML reads on and off as booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def full_text_of(setting: FullTextSetting) -> FullText | None:
    """What a collection is made with; None: it is searched by vectors alone."""
    if isinstance(setting, FullText):
        return setting
    return FullText() if setting == "on" else None


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    kind: ServerKind
    version: str = ""

    @property
    def number(self) -> tuple[int, int, int]:
        """(major, minor, patch); a version that cannot be read counts as new, since the server itself will refuse what it lacks."""
        found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", self.version)
        return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (99, 0, 0)

    def __str__(self) -> str:
        return f"{self.kind} {self.version.removeprefix('v')}".strip()


def check_index(index: Index, server: Server) -> None:
    """Find an index that a server lacks before anything is encoded.

    Raises:
        BadInput: names the index, the server, and what to choose.
    """
    there = {"Milvus Lite": LITE, "Zilliz Cloud": ZILLIZ}.get(server.kind)
    if there is not None and index.type not in there:
        raise BadInput(f"target.index.type: {server} has no {index.type}: choose one of {', '.join(sorted(there))}")
    since = SINCE.get(index.type, (0, 0))
    if server.kind == "Milvus" and server.number < since:
        raise BadInput(
            f"target.index.type: {index.type} needs Milvus {since[0]}.{since[1]}, and this is {server}: choose HNSW, or leave it at AUTOINDEX"
        )


def why_not_stored(vectors: VectorType, *, metric: str, index: Index) -> str | None:
    """Why vectors of a type go with no server under a metric or an index; None: they do.

    int8 holds no numbers such as 0.03: each vector is stretched until its largest number is 127. Cosines stay what they
    are; inner products and distances between vectors that were stretched differently mean nothing.
    """
    if vectors != "int8":
        return None
    if metric not in {"auto", "COSINE"}:
        return f"vector_type int8 goes with metric COSINE alone, not with {metric}: choose float16, or COSINE"
    if index.type not in INT8_INDEXES:
        return f"vector_type int8 has no index {index.type}: choose one of {', '.join(sorted(INT8_INDEXES))}"
    return None


def check_vector_type(vectors: VectorType, server: Server) -> None:
    """Find a type of vectors that a server does not store before anything is encoded.

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
