"""What Kitestring needs to know of a collection, whatever server holds it."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.fields import ScalarField
from tasks.domain.index import Index
from tasks.domain.job import Target
from tasks.domain.strict import Strict


class CollectionSpec(Strict):
    """The collection of one encoder. Fields: id (key), vector, text if kept, the scalar fields, shard."""

    name: str
    alias: str
    dim: int = Field(ge=1)
    metric: str
    store_text: bool
    id_length: int
    fields: tuple[ScalarField, ...]
    index: Index = Index()
    fingerprint: str
    model: str = Field(description="Told in errors: which model made the collection.")
    revision: str | None = Field(None, description="Of the model, where it came from a hub.")


class Hit(Strict):
    """One answer to a search."""

    id: str
    score: float = Field(description="In the collection's metric: the higher the nearer for COSINE and IP, the lower for L2.")
    fields: dict[str, object]


def collection_name(alias: str, fingerprint: str) -> str:
    """The collection behind an alias for one encoder."""
    return f"{alias}_{fingerprint[:8]}"


def target_fingerprint(target: Target, collection: str) -> str:
    """16 hexadecimal digits that name a collection on a server: the ledger's folder."""
    return digest({"uri": target.uri, "database": target.database, "collection": collection})[:16]
