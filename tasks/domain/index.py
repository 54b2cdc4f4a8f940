"""Which index a collection of vectors gets, and which servers have it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tasks.domain.errors import BadInput
from tasks.domain.strict import Strict

IndexType = Literal["AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ", "HNSW", "HNSW_SQ", "SCANN", "DISKANN"]
Parameters = dict[str, int | float | str | bool]
ServerKind = Literal["Milvus Lite", "Milvus", "Zilliz Cloud"]

# Since which version a server has it: Milvus' release notes. AUTOINDEX, FLAT, IVF and HNSW are older than any server we meet.
SINCE: dict[IndexType, tuple[int, int]] = {"SCANN": (2, 3), "DISKANN": (2, 2), "HNSW_SQ": (2, 5), "IVF_RABITQ": (2, 6)}
# Milvus Lite 3.2 takes every name, and says only when it builds that it lacks the index, or never.
LITE: frozenset[IndexType] = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ"})
ZILLIZ: frozenset[IndexType] = frozenset({"AUTOINDEX"})


class Index(Strict):
    """How the vectors are indexed. AUTOINDEX leaves it to the server, which knows its version and the size of each segment."""

    type: IndexType = Field("AUTOINDEX", title="Type", description="AUTOINDEX is right unless you measured; FLAT is exact.")
    params: Parameters = Field(
        default_factory=dict, title="Build parameters", description="As Milvus names them, such as {M: 32, efConstruction: 360}."
    )


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    kind: ServerKind
    version: str = ""

    @property
    def number(self) -> tuple[int, int]:
        """(major, minor); a version that cannot be read counts as new, since the server itself will refuse what it lacks."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else (99, 0)

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
