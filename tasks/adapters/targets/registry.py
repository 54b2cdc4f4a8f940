"""Open the collection that a job's target names, whatever holds it."""

from __future__ import annotations

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus.import_collection import BulkCollection
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.targets.memory_collection import MemoryCollection
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Target
from tasks.domain.ports import Collection


def open_collection(target: Target, spec_name: str, *, token: str | None, patience: RetryPolicy | None = None) -> Collection:
    """The collection `spec_name` behind the alias `target.collection`. Connects at the first call; close it.

    Args:
        target: the job's; `memory://name` gives the in-memory twin.
        spec_name: see `tasks.domain.target.collection.collection_name`.
        token: for a server that asks for one.
        patience: how long calls are tried again; 60 s if left out.
    """
    if target.uri.startswith("memory://"):
        return MemoryCollection(target.uri, spec_name, alias=target.collection)
    return MilvusCollection(
        target.uri,
        spec_name,
        alias=target.collection,
        database=target.database,
        token=token,
        patience=patience or RetryPolicy(),
        search_params=target.search,
    )


def open_bulk(target: Target, name: str, *, token: str | None) -> BulkCollection:
    """A collection that an import fills.

    Raises:
        BadInput: the target is of a kind that has no import.
    """
    if target.uri.startswith("memory://"):
        raise BadInput("target.load: a collection in memory has no import")
    return BulkCollection(target.uri, name, alias=target.collection, database=target.database, token=token)
