"""One collection of Milvus Lite, a Milvus server or Zilliz Cloud, through pymilvus' MilvusClient.

Thread-safe. Every write is idempotent by key, so a call with an unknown outcome is retried, only here (`RetryPolicy`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.compute as pc
from pymilvus.exceptions import MilvusException

from tasks.adapters.milvus import lite
from tasks.adapters.milvus.collection_schema import MARKER, build_schema, lost_of, read_marker, write_marker
from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.protobuf import as_request, send, stub_of
from tasks.adapters.milvus.row_dicts import as_rows, merges
from tasks.adapters.milvus.searching import Searching
from tasks.adapters.milvus.server_errors import is_there_already, is_too_fast
from tasks.adapters.milvus.vector_index import FLUSHED_ROWS, await_indexes, load, make_indexes, replace_index, server_of
from tasks.adapters.rows.collection_rows import FieldTypes, batches, columns_of
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.index import Parameters
from tasks.domain.ports import Target
from tasks.domain.target.collection import CollectionSpec, check_nothing_lost, check_same, index_to_build, new_identity
from tasks.domain.target.rate_limit import Throttle

T = TypeVar("T")
log = logging.getLogger("kitestring.load")

UPSERT_ROWS = 2_000
UPSERT_BYTES = 8 * 2**20
CATCH_UP_SECONDS = 900.0  # before it answers a strong read, 2.3.5 was seen to spend 20 ms on each acknowledged batch
_MAKING = threading.Lock()  # one for all collections: a Milvus Lite file belongs to one process, and servers serialise creation themselves


class MilvusCollection(Searching):
    """See `tasks.domain.ports.Collection` for the contract."""

    def __init__(
        self, target: Target, connection: Connection, name: str, *, search_params: Parameters, batch: dict[str, int], columns: bool
    ) -> None:
        self.target, self.name, self._connection = target, name, connection
        self._call, self._at = connection.call, connection.at.name
        self._batch, self._columns, self._search_params = batch, columns, search_params
        self.throttle = Throttle(clock=connection.patience.clock, sleep=connection.patience.sleep)
        self._written = 0
        self._spec: CollectionSpec | None = None
        self._identity = ""
        self._lost: list[str] = []
        self._is_ready = False
        self._closings = connection.closings  # the connection's count when `_spec` was read
        self._nullable: frozenset[str] = frozenset()
        self._lock = threading.RLock()  # may be held while a call waits for a Milvus Lite file: code within a call must not take it

    # ---- the collection ----

    def describe(self) -> CollectionSpec | None:
        described = self._described()
        return None if described is None else read_marker(described, self._at).spec

    def identity(self) -> str | None:
        described = self._described()
        return None if described is None else read_marker(described, self._at).identity

    def _described(self) -> dict[str, Any] | None:
        def look() -> dict[str, Any] | None:
            if self._connection.absent:
                return None  # connecting would create the Milvus Lite file
            client = self._connection.client
            if self.name not in client.list_collections(timeout=CALL_SECONDS):
                return None
            answer: dict[str, Any] = client.describe_collection(self.name, timeout=CALL_SECONDS)
            return answer

        described: dict[str, Any] | None = self._call(look, f"looking for collection '{self.name}'")
        return described

    def check(self, spec: CollectionSpec) -> CollectionSpec | None:
        self.target.reach(spec.alias)
        self.target.check(spec)
        existing = self.describe()
        if existing is not None:
            check_same(existing, spec, self._at)
            check_nothing_lost(self.name, self.lost(), self._at)
        return existing

    def lost(self) -> list[str]:
        described = self._described()
        return [] if described is None else lost_of(described, read_marker(described, self._at).spec)

    def ensure(self, spec: CollectionSpec) -> str:
        with _MAKING:  # concurrent load tasks call this at the same time, and Milvus Lite creates a collection in steps
            if self.check(spec) is None:
                self._call(lambda: self._create(spec), f"making collection '{self.name}'", writes=True)
                self._spec = None
                self.check(spec)  # another process may have created it at the same time
            self._made()
            return self._identity

    def _create(self, spec: CollectionSpec) -> None:
        client = self._connection.client
        if self._connection.lite and not lite.make_room(self._connection.uri, self._connection.database, self.name):
            raise BadInput(
                f"{self._at}: the folder of collection '{self.name}' has no schema.json, and this is not the result of an interrupted run: "
                "restore the folder, or move it elsewhere"
            )
        marker = write_marker(spec, new_identity())
        properties = {"properties": {MARKER: marker}} if self._connection.lite else {}
        try:
            client.create_collection(
                self.name, schema=build_schema(spec, marker), consistency_level="Bounded", timeout=CALL_SECONDS, **properties
            )
        except MilvusException as error:
            if not is_there_already(error):
                raise

    def _made(self) -> CollectionSpec:
        """The spec that the collection was created with; cached."""
        with self._lock:
            if self._closings != self._connection.closings:  # reconnected: a Milvus Lite file has to be loaded again
                self._spec, self._is_ready, self._closings = None, False, self._connection.closings
            if self._spec is None:
                described = self._described()
                if described is None:
                    raise BadInput(
                        f"collection '{self.name}' does not exist at {self._at}: load it first with `kitestring run` or `kitestring replay`"
                    )
                self._nullable = frozenset(f["name"] for f in described["fields"] if f.get("nullable"))
                self._spec, self._identity = read_marker(described, self._at)
                self._lost = lost_of(described, self._spec)
            return self._spec

    def _ready(self) -> CollectionSpec:
        """Index and load the collection, which reads and deletions need (also after a Milvus Lite file is reopened)."""
        spec = self._made()
        with self._lock:
            if not self._is_ready:
                left = spec.model_copy(update={"full_text": None}) if self._lost else spec  # the remaining fields stay readable
                self._call(lambda: make_indexes(self._connection, self.name, left), f"indexing collection '{self.name}'", writes=True)
                load(self._connection, self.name)
                self._is_ready = True
        return spec

    def reindex(self, spec: CollectionSpec) -> str | None:
        current = self._made()
        differs = index_to_build(current, spec)
        if differs:
            rebuilt = current.model_copy(update={"index": spec.index})
            self._call(partial(replace_index, self._connection, self.name, rebuilt), f"indexing collection '{self.name}'", writes=True)
            with self._lock:
                load(self._connection, self.name)
                self._is_ready = True
            # Last, so that a killed rebuild is repeated. Servers cannot change a description: `read_marker` prefers the property.
            marker = {MARKER: write_marker(rebuilt, self._identity)}
            record = partial(self._connection.client.alter_collection_properties, self.name, marker, timeout=CALL_SECONDS)
            self._call(record, f"recording the index of '{self.name}'", writes=True)
            self._spec = None
        return differs

    def flush_and_index(self) -> None:
        if self._connection.lite:  # acknowledged rows are readable; loading indexes what is flushed by then, on all cores
            self._flush()
            self._ready()
        else:
            self._ready()
            self._query("", ["count(*)"], seconds=CATCH_UP_SECONDS)
            if self._flush():
                await_indexes(self._connection, self.name, self._made())
        if self._written >= FLUSHED_ROWS:
            self._written = 0

    def _flush(self) -> bool:
        """Flush if at least `FLUSHED_ROWS` rows were written; returns whether it did."""
        if self._written < FLUSHED_ROWS:
            return False
        flush = partial(self._connection.client.flush, self.name, timeout=None if self._connection.lite else CATCH_UP_SECONDS)
        self._call(flush, f"flushing '{self.name}'", writes=True)
        return True

    # ---- rows ----

    def upsert(self, rows: pa.Table) -> int:
        spec = self._made()
        return self._send(rows, spec, columns_of(spec))

    def updates_fields(self) -> bool:
        """False with full text or a partition key, which depend on other fields; see `tasks.adapters.milvus.row_dicts.merges`."""
        spec = self._made()
        return not spec.full_text and spec.partition_key is None and merges(server_of(self._connection))

    def upsert_fields(self, rows: pa.Table) -> int:
        spec = self._ready()  # the server reads the existing rows
        return self._send(rows, spec, {name: kind for name, kind in columns_of(spec).items() if kind is not None})

    def _send(self, rows: pa.Table, spec: CollectionSpec, columns: FieldTypes) -> int:
        rows, cut = self._as_sent(rows, spec)
        for batch in batches(rows, columns, **self._batch):
            _refuse_doubles(batch)
            send_batch = self._paced(self._sender(batch, spec, columns), batch.num_rows)
            self._call(send_batch, f"upserting {batch.num_rows} rows into '{self.name}'", writes=True)
            with self._lock:
                self._written += batch.num_rows
        return cut

    def _paced(self, action: Callable[[], object], rows: int) -> Callable[[], None]:
        """Wrap an action to respect the rate that the server accepts."""

        def paced() -> None:
            self.throttle.wait(rows)
            try:
                action()
            except (MilvusException, grpc.RpcError) as error:
                if is_too_fast(error):
                    log.info("%s limits the rate: %.0f rows/s from now on", self._at, self.throttle.refused())
                raise
            self.throttle.taken(rows)

        return paced

    def _sender(self, batch: pa.Table, spec: CollectionSpec, columns: FieldTypes) -> Callable[[], object]:
        """Build the request once for all retries. Without the vector among the columns the fields are merged with the existing rows."""
        vectors = spec.vector_type
        if self._columns and stub_of(self._connection.client) is not None:
            request = as_request(batch, columns, spec.dim, collection=self.name, nullable=self._nullable, vectors=vectors)
            return lambda: send(stub_of(self._connection.client), request, database=self._connection.database, timeout=CALL_SECONDS)
        dicts = as_rows(batch, columns, spec.dim, vectors=vectors)
        options = {} if None in columns.values() else {"partial_update": True}
        return lambda: self._connection.client.upsert(self.name, dicts, timeout=CALL_SECONDS, retry_on_rate_limit=False, **options)

    def form(self) -> tuple[FieldTypes, frozenset[str]]:
        """The fields that an import file must have, and those of them that may be null."""
        return columns_of(self._made()), self._nullable


def _refuse_doubles(batch: pa.Table) -> None:
    """Refuse two rows of one key in a request: 2.3.5 stores both, later servers refuse them."""
    counts = pc.value_counts(batch["id"])
    if len(counts) < batch.num_rows:
        doubled = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
        raise Permanent(f"key '{doubled}' occurs twice in one batch: rows must be deduplicated before loading")
