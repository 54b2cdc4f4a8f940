"""A collection's indexes: made after a fresh collection is filled, so that no segment is indexed twice; then loaded.

A collection that exists has its index, and keeps it while rows are added: searches go on meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from tasks.adapters.milvus_connection import CALL_SECONDS, Connection
from tasks.adapters.milvus_errors import Verdict, is_there_already, judge
from tasks.domain.collection import CollectionSpec
from tasks.domain.index import Server

log = logging.getLogger("kitestring.load")

FLUSHED_ROWS = 10_000  # fewer are searched exactly where they are, and the server seals them in its own time
POLL_SECONDS = 1.0
STUCK_SECONDS = 300.0  # without one more row indexed


def server_of(connection: Connection) -> Server:
    """What answers there."""
    if connection.lite:
        return Server("Milvus Lite")
    return Server("Zilliz Cloud" if "zillizcloud" in connection.uri else "Milvus", connection.version)


def make_indexes(connection: Connection, name: str, spec: CollectionSpec) -> None:
    """Index the vectors and the shard's field, where they are not yet; finishes what a killed run began."""
    there = connection.client.list_indexes(name)
    if "vector" not in there:
        how = {"index_type": spec.index.type, "metric_type": spec.metric, "params": spec.index.params}
        log.info("indexing the vectors of '%s' with %s", name, spec.index.type)
        _make(connection, name, field_name="vector", index_name="vector", **how)
    if "shard" not in there and not connection.lite:
        try:
            _make(connection, name, index_type="INVERTED", field_name="shard", index_name="shard")
        except MilvusException as error:
            if judge(error) is not Verdict.NEVER:
                raise  # older servers have no such index, and filter without one


def _make(connection: Connection, name: str, **how: Any) -> None:
    params = MilvusClient.prepare_index_params()
    params.add_index(**how)
    try:
        connection.client.create_index(name, params, timeout=connection.patience.seconds)
    except MilvusException as error:
        if not is_there_already(error):
            raise


def await_indexes(connection: Connection, name: str) -> None:
    """Wait until every row is indexed, as long as it goes forward; a search is right before, and slower."""
    patience = connection.patience
    left, since = _pending(connection, name), patience.clock()
    while left:
        if patience.clock() - since > STUCK_SECONDS:
            log.warning("%d rows of '%s' are still not indexed, and it does not go forward: searches are slow until they are", left, name)
            return
        patience.sleep(POLL_SECONDS)
        now = _pending(connection, name)
        since = patience.clock() if now < left else since
        left = now


def _pending(connection: Connection, name: str) -> int:
    ask: Callable[[], Any] = lambda: connection.client.describe_index(name, "vector", timeout=CALL_SECONDS)  # noqa: E731 - a call to be made again
    told = connection.call(ask, f"looking at the index of '{name}'") or {}
    return int(told.get("pending_index_rows") or 0)
