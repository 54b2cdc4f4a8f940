"""What Kitestring needs to know of a collection, whatever server holds it."""

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
    """The collection of one encoder. Fields: id (key), vector, text if kept, the scalar fields, shard; with full text the server's own sparse one."""

    name: str
    alias: str
    dim: int = Field(ge=1)
    metric: str
    store_text: bool
    id_length: int
    fields: tuple[ScalarField, ...]
    partition_key: str | None = Field(None, description="The scalar field by whose values the server lays rows together.")
    vector_type: VectorType = "float32"
    sparse: Annotated[bool, ADDED_LATER] = Field(
        False, description="Whether its vectors are weights of some terms of a vocabulary of `dim` terms."
    )
    index: Index = Index()
    full_text: FullText | None = Field(None, description="How it is searched by words; None: it is not.")
    fingerprint: str
    model: str = Field(description="The model that made the collection; named in errors.")
    revision: str | None = Field(None, description="Of the model, where it came from a hub.")
    server: Annotated[ServedIdentity | None, ADDED_LATER] = Field(
        None,
        description="Of a served model: how its server answered, since the fingerprint has its name alone. None also in older collections.",
    )


ARRAYS_SINCE = (2, 3, 2)
SPARSE_SINCE = (2, 4, 0)
# Measured on 2.3.5: an upsert lays rows where a filter by the partition key does not find them (milvus #30607). 2.4.0 to 2.4.2 do so
# when they import (#33237).
PARTITION_KEYS_SINCE = (2, 4, 3)


def check_server(spec: CollectionSpec, server: Server) -> None:
    """Find what a server cannot hold of a collection before anything is encoded.

    Raises:
        BadInput: an index, a type of vectors, an array or a partition key that it lacks; names it and what to choose.
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
            "and filter by the field as it is"
        )


def check_same(there: CollectionSpec, wanted: CollectionSpec, at: str) -> None:
    """Refuse a collection that was made otherwise.

    Raises:
        BadInput: names what differs, on both sides.
    """
    differences = [f"{what} {old}, the job {new}" for what, old, new in _compared(there, wanted) if old != new]
    if other := other_server(wanted.server, there.server):
        differences.append(f"vectors of another model of the encoder's server ({other})")
    if differences:
        raise BadInput(
            f"collection '{there.name}' at {at} was made otherwise: it has {'; '.join(differences)}: "
            "choose another target.collection, or drop it"
        )


def check_nothing_lost(name: str, lost: list[str], at: str) -> None:
    """Refuse a collection that has lost something of what it was made with.

    Raises:
        BadInput: names it.
    """
    if lost:
        raise BadInput(why_not_whole(name, lost, at))


def why_not_whole(name: str, lost: list[str], at: str) -> str:
    return f"collection '{name}' at {at} was made with full text and lacks {' and '.join(lost)}: drop the collection, and `kitestring replay` fills it again"


def index_to_build(there: CollectionSpec, wanted: CollectionSpec) -> str | None:
    """How the index of a collection differs from the one that a job asks for; None: it does not. It can be built anew in place."""
    now, then = (spec.index.model_copy(update={"params": spec.index.build_params(spec.dim)}) for spec in (there, wanted))
    return None if now == then else f"{now}, the job {then}"


def _compared(there: CollectionSpec, wanted: CollectionSpec) -> list[tuple[str, object, object]]:
    rows: list[tuple[str, object, object]] = [
        ("dimension", there.dim, wanted.dim),
        ("metric", there.metric, wanted.metric),
        ("encoder", f"{there.model} ({there.fingerprint[:8]})", f"{wanted.model} ({wanted.fingerprint[:8]})"),
        ("key length", there.id_length, wanted.id_length),
        ("stored text", there.store_text, wanted.store_text),
        ("vectors that are", "sparse" if there.sparse else "dense", "sparse" if wanted.sparse else "dense"),
        ("vectors of", there.vector_type, wanted.vector_type),
        ("partition key", there.partition_key or "none", wanted.partition_key or "none"),
        ("full text", str(there.full_text or "none"), str(wanted.full_text or "none")),
    ]
    if there.fingerprint == wanted.fingerprint:  # one encoder under two names is one encoder
        rows.pop(2)
    old, new = ({f.name: f.type for f in spec.fields} for spec in (there, wanted))
    rows += [(f"field '{name}'", old.get(name, "absent"), new.get(name, "absent")) for name in {**old, **new}]
    return rows


class Hit(Strict):
    """One answer to a search."""

    id: str
    score: float = Field(
        description="By meaning in the collection's metric: the higher the nearer for COSINE and IP, the lower for L2. By words BM25,"
        " and by both what fused the two: the higher the better."
    )
    fields: dict[str, object]
    by_meaning: int | None = Field(None, ge=1, description="Its rank among the vectors, where that was asked.")
    by_words: int | None = Field(None, ge=1, description="Its rank among the texts, where that was asked.")


def collection_name(alias: str, fingerprint: str, full_text: FullText | None = None) -> str:
    """The collection behind an alias for one encoder, and one way to search by words: another way is built beside it, and the alias moves."""
    made = fingerprint if full_text is None else digest({"fingerprint": fingerprint, "full_text": full_text.params})
    return f"{alias}_{made[:8]}"


def new_identity() -> str:
    """16 hexadecimal digits at random, made with a collection and kept in it: the name of its ledger.

    An address says nothing of what stands there: one collection is reached by many, and one address leads to another collection
    when the first was dropped.
    """
    return secrets.token_hex(8)


def target_fingerprint(target: TargetSettings, collection: str) -> str:
    """16 hexadecimal digits that name an address: what is known before the collection is there, and the ledger of one without identity."""
    return digest({**target.place, "collection": collection})[:16]
