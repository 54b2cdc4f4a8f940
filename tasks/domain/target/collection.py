"""The specification of a collection, independent of the kind of target."""

from __future__ import annotations

import secrets
from typing import Annotated

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText, Index, Server, VectorType, check_index, check_vector_type
from tasks.domain.job.target import TargetSettings
from tasks.domain.served_identity import ServedIdentity, other_server
from tasks.domain.strict import ADDED_LATER, Growing, Strict
from tasks.domain.target.fields import ELEMENTS, ScalarField
from tasks.domain.target.full_text import check_full_text


class CollectionSpec(Growing):
    """The collection of one encoder. Fields: id (key), vector, text if stored, scalar fields, shard, and a sparse one for full text."""

    name: str
    alias: str
    dim: int = Field(ge=1)
    metric: str
    store_text: bool
    id_length: int
    fields: tuple[ScalarField, ...]
    partition_key: str | None = Field(None, description="The scalar field by which the server partitions rows.")
    vector_type: VectorType = "float32"
    sparse: Annotated[bool, ADDED_LATER] = Field(
        False, description="Whether its vectors are weights of some terms of a vocabulary of `dim` terms."
    )
    index: Index = Index()
    full_text: FullText | None = Field(None, description="Settings of full-text search; None: it has none.")
    fingerprint: str
    model: str = Field(description="The model that made the collection; named in errors.")
    revision: str | None = Field(None, description="The model's revision, if it came from a hub.")
    server: Annotated[ServedIdentity | None, ADDED_LATER] = Field(
        None,
        description="For a served model: its server's identity, because the fingerprint covers only the name. None also in older ones.",
    )


ARRAYS_SINCE = (2, 3, 2)
SPARSE_SINCE = (2, 4, 0)
# Measured on 2.3.5: a filter by the partition key does not find upserted rows (milvus #30607), and on 2.4.0 to 2.4.2 not
# imported ones (#33237).
PARTITION_KEYS_SINCE = (2, 4, 3)


def check_server(spec: CollectionSpec, server: Server) -> None:
    """Check, before anything is encoded, that a server supports a collection.

    Raises:
        BadInput: the server lacks the index, the vector type, arrays or the partition key; names it and what to choose.
    """
    check_index(spec.index, server)
    check_vector_type(spec.vector_type, server)
    if spec.full_text:
        check_full_text(spec.full_text, server)
    if spec.sparse and server.kind == "Milvus" and server.number < SPARSE_SINCE:
        raise BadInput(
            f"encoder.kind: sparse vectors need Milvus 2.4, and this is {server}: use a newer server, Milvus Lite or Zilliz Cloud"
        )
    if server.kind != "Milvus":
        return
    array = next((field.column for field in spec.fields if field.type in ELEMENTS), None)
    if array and server.number < ARRAYS_SINCE:
        raise BadInput(f"source.metadata: column '{array}' holds lists, which need Milvus 2.3.2, and this is {server}: leave it out")
    if spec.partition_key and server.number < PARTITION_KEYS_SINCE:
        raise BadInput(
            f"target.partition_key needs Milvus 2.4.3, and this is {server}, where a filter by the key misses rows: leave it out, "
            "and filter by the field without a partition key"
        )


def check_same(existing: CollectionSpec, required: CollectionSpec, at: str) -> None:
    """Refuse an existing collection that differs from the job's.

    Raises:
        BadInput: names the differences, with both values.
    """
    differences = [f"{what} {old}, the job {new}" for what, old, new in _compared(existing, required) if old != new]
    if other := other_server(required.server, existing.server):
        differences.append(f"vectors of another model of the encoder's server ({other})")
    if differences:
        raise BadInput(
            f"collection '{existing.name}' at {at} does not match the job: it has {'; '.join(differences)}: "
            "choose another target.collection, or drop it"
        )


def check_nothing_lost(name: str, lost: list[str], at: str) -> None:
    """Refuse a collection that has lost a part of its schema.

    Raises:
        BadInput: names what is missing.
    """
    if lost:
        raise BadInput(why_not_whole(name, lost, at))


def why_not_whole(name: str, lost: list[str], at: str) -> str:
    missing = " and ".join(lost)
    return f"collection '{name}' at {at} was created with full text and lacks {missing}: drop it, and `kitestring replay` fills it again"


def index_to_build(existing: CollectionSpec, required: CollectionSpec) -> str | None:
    """Describe how a collection's index differs from the job's; None: it does not. An index can be rebuilt in place."""
    old, new = (spec.index.model_copy(update={"params": spec.index.build_params(spec.dim)}) for spec in (existing, required))
    return None if old == new else f"{old}, the job {new}"


def _compared(existing: CollectionSpec, required: CollectionSpec) -> list[tuple[str, object, object]]:
    rows: list[tuple[str, object, object]] = [
        ("dimension", existing.dim, required.dim),
        ("metric", existing.metric, required.metric),
        ("encoder", f"{existing.model} ({existing.fingerprint[:8]})", f"{required.model} ({required.fingerprint[:8]})"),
        ("key length", existing.id_length, required.id_length),
        ("stored text", existing.store_text, required.store_text),
        ("vectors that are", "sparse" if existing.sparse else "dense", "sparse" if required.sparse else "dense"),
        ("vectors of", existing.vector_type, required.vector_type),
        ("partition key", existing.partition_key or "none", required.partition_key or "none"),
        ("full text", str(existing.full_text or "none"), str(required.full_text or "none")),
    ]
    if existing.fingerprint == required.fingerprint:  # the same encoder under two names
        rows.pop(2)
    old, new = ({f.name: f.type for f in spec.fields} for spec in (existing, required))
    rows += [(f"field '{name}'", old.get(name, "absent"), new.get(name, "absent")) for name in {**old, **new}]
    return rows


class Hit(Strict):
    """One hit of a search."""

    id: str
    score: float = Field(
        description="Vector search: in the collection's metric; higher is nearer for COSINE and IP, lower for L2. Text search: BM25."
        " Hybrid search: the fused score. For both higher is better."
    )
    fields: dict[str, object]
    by_meaning: int | None = Field(None, ge=1, description="Its rank in the vector search, if requested.")
    by_words: int | None = Field(None, ge=1, description="Its rank in the text search, if requested.")


def collection_name(alias: str, fingerprint: str, full_text: FullText | None = None) -> str:
    """Return the name of an alias' collection for one encoder and one full-text setting; other settings get a collection of their own."""
    identifier = fingerprint if full_text is None else digest({"fingerprint": fingerprint, "full_text": full_text.params})
    return f"{alias}_{identifier[:8]}"


def new_identity() -> str:
    """Return 16 random hexadecimal digits, stored in a new collection: the name of its ledger.

    An address does not identify a collection: one collection can have several addresses, and after a drop an address can
    belong to another collection.
    """
    return secrets.token_hex(8)


def target_fingerprint(target: TargetSettings, collection: str) -> str:
    """Return 16 hexadecimal digits that identify an address, before the collection exists; the ledger's name if it has no identity."""
    return digest({**target.place, "collection": collection})[:16]
