"""A collection's indexes: built after a new collection is filled, so that no segment is indexed twice; then loaded.

An existing collection keeps its index while rows are added, so searches continue. How long a server loads
or indexes depends on its rows, so the wait for either lasts as long as there is progress.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.server_errors import RetryDecision, is_there_already, judge
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.index import FullText, Server
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.full_text import BM25_B, BM25_K1, SPARSE_FIELD, tokenizer_of

log = logging.getLogger("kitestring.load")

SPARSE_INDEX = "SPARSE_INVERTED_INDEX"
FLUSHED_ROWS = 10_000  # fewer are searched exactly without an index, and the server flushes them on its own schedule
INDEX_POLL_SECONDS = 1.0
INDEX_STUCK_SECONDS = 300.0  # without progress


def server_of(connection: Connection) -> Server:
    """The kind and version of the server behind a connection."""
    if connection.lite:
        return Server("Milvus Lite")
    return Server("Zilliz Cloud" if _is_zilliz(connection.uri) else "Milvus", connection.version)


def _is_zilliz(uri: str) -> bool:
    """By pymilvus' rule (`get_server_type`, not public), which looks at the host only."""
    return "zilliz" in (urlsplit(uri).hostname or "").lower()


def check_analyzer(connection: Connection, full_text: FullText) -> None:
    """Have the server validate the settings of an analyzer: only the server knows which tokenizers and filters it has.

    Raises:
        BadInput: the server refuses them.
    """
    if connection.lite:
        if tokenizer_of(full_text) == "jieba" and find_spec("jieba") is None:
            raise BadInput("target.full_text.analyzer: Milvus Lite needs the package jieba for its tokenizer: pip install jieba")
        return

    def ask() -> None:
        try:
            connection.client.run_analyzer("a", analyzer_params=full_text.params, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:  # before 2.5.11 it is validated when the collection is created
                raise

    try:
        connection.call(ask, "validating the analyzer of target.full_text")
    except Permanent as error:
        raise BadInput(f"target.full_text.analyzer is refused: {error}: correct it, or set target.full_text: on") from error


def make_indexes(connection: Connection, name: str, spec: CollectionSpec) -> None:
    """Build the missing indexes of the vectors, the sparse field and the shard field; completes the work of a killed run."""
    existing = connection.client.list_indexes(name)
    if "vector" not in existing:
        kind = SPARSE_INDEX if spec.sparse else spec.index.type
        options = {"index_type": kind, "metric_type": spec.metric, "params": {} if spec.sparse else spec.index.build_params(spec.dim)}
        log.info("indexing the vectors of '%s' with %s", name, kind)
        _make(connection, name, field_name="vector", index_name="vector", **options)
    if spec.full_text and SPARSE_FIELD not in existing:
        options = {"index_type": SPARSE_INDEX, "metric_type": "BM25", "params": {"bm25_k1": BM25_K1, "bm25_b": BM25_B}}
        log.info("indexing the texts of '%s'", name)
        _make(connection, name, field_name=SPARSE_FIELD, index_name=SPARSE_FIELD, **options)
    if "shard" not in existing and not connection.lite:
        try:
            _make(connection, name, index_type="INVERTED", field_name="shard", index_name="shard")
        except MilvusException as error:
            if judge(error) is not RetryDecision.NEVER:
                raise  # older servers have no such index, and filter without one


def replace_index(connection: Connection, name: str, spec: CollectionSpec) -> None:
    """Rebuild the vector index. A field has one index, and it cannot be dropped while the collection is loaded: searches wait for the reload."""
    if "vector" in connection.client.list_indexes(name):
        connection.client.release_collection(name, timeout=CALL_SECONDS)
        connection.client.drop_index(name, "vector", timeout=CALL_SECONDS)
    make_indexes(connection, name, spec)


def _make(connection: Connection, name: str, **options: Any) -> None:
    params = MilvusClient.prepare_index_params()
    params.add_index(**options)
    try:
        # Servers index flushed segments in the background, so wait; Milvus Lite indexes on load, within that call.
        timeout = None if connection.lite else connection.patience.seconds
        connection.client.create_index(name, params, timeout=timeout, sync=not connection.lite)
    except MilvusException as error:
        if not is_there_already(error):
            raise


def load(connection: Connection, name: str) -> None:
    """Have the server load the collection for searches, and wait for it.

    Raises:
        Transient: the server does not answer, or loading makes no progress.
    """
    doing = f"loading collection '{name}'"
    # Milvus Lite builds the indexes within the call; a server returns at once and is polled.
    options: dict[str, Any] = {} if connection.lite else {"timeout": CALL_SECONDS, "_async": True}
    request: Callable[[], Any] = lambda: connection.client.load_collection(name, **options)  # noqa: E731 - called again on a retry

    def left() -> int:
        answer = connection.call(lambda: connection.client.get_load_state(name, timeout=CALL_SECONDS), doing)
        state = str(answer["state"])  # pymilvus' private enum LoadState, or its name
        if state.endswith("NotLoad"):  # the server has lost the request
            connection.call(request, doing)
        return 0 if state.endswith("Loaded") else 100 - min(99, int(answer.get("progress") or 0))

    connection.call(request, doing)
    if percent := _wait(connection, left):
        raise Transient(f"{doing} at {connection.at.name}: {percent}% are left, without progress for {INDEX_STUCK_SECONDS:.0f} s")


def await_indexes(connection: Connection, name: str, spec: CollectionSpec) -> None:
    """Wait until every row is indexed, while there is progress. Searches before that are correct, but slower."""
    indexes = ["vector", *([SPARSE_FIELD] if spec.full_text else [])]
    if rows := _wait(connection, lambda: max(_pending(connection, name, index) for index in indexes)):
        log.warning("%d rows of '%s' are still not indexed, and indexing makes no progress: searches are slow until then", rows, name)


def _wait(connection: Connection, left: Callable[[], int]) -> int:
    """Wait until nothing is left; returns what is left if there is no progress for `INDEX_STUCK_SECONDS`."""
    patience = connection.patience
    before, since, pause = left(), patience.clock(), patience.first
    while before:
        if patience.clock() - since > INDEX_STUCK_SECONDS:
            return before
        patience.sleep(pause)
        now = left()
        since = patience.clock() if now < before else since
        before, pause = now, min(2 * pause, INDEX_POLL_SECONDS)
    return 0


def _pending(connection: Connection, name: str, index: str) -> int:
    """Rows without an index. The server's pending count includes rows it re-indexes after merging indexed segments."""
    ask: Callable[[], Any] = lambda: connection.client.describe_index(name, index, timeout=CALL_SECONDS)  # noqa: E731 - called again on a retry
    answer = connection.call(ask, f"reading the index state of '{name}'") or {}
    total, indexed, pending = (int(answer.get(count) or 0) for count in ("total_rows", "indexed_rows", "pending_index_rows"))
    return min(pending, max(0, total - indexed))
