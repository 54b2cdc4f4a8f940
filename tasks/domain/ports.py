"""The interfaces to the outside. Each has a real adapter and an in-memory fake, which pass the same behaviour tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import LoadGroup, ShardGroup
from tasks.domain.encoding.protocol import Piece
from tasks.domain.encoding.throughput import Throughput
from tasks.domain.estimate.rates import Observation
from tasks.domain.shards.bulk_loader import BulkLoader
from tasks.domain.shards.seal import Part
from tasks.domain.shards.shard import Shard, Span
from tasks.domain.strict import Strict
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.difference import Compared
from tasks.domain.target.fields import FieldType
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.rate_limit import Throttle

if TYPE_CHECKING:  # adapters exchange arrays; the domain does not look inside them
    import numpy as np
    import pyarrow as pa


class StoredObject(Strict):
    """One object of a listing."""

    key: str
    size: int
    modified: float  # seconds since 1970, by the store's clock


class Store(Protocol):
    """The checkpoint store: six operations on immutable objects."""

    url: str  # for people; the same string opens the store again

    def read(self, key: str) -> bytes | None:
        """Return the object, or None if there is none."""

    def write(self, key: str, data: bytes | Path) -> None:
        """Write an object atomically; replaces an existing one."""

    def commit(self, key: str, data: bytes) -> bool:
        """Write an object if the key is free. False: another object has the key and is unchanged."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with `prefix`, streamed, in no particular order."""

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects in as few calls as the store allows. After an error some may be deleted; it may be called again."""


class Cache(Protocol):
    """Values shared by machines; losing them costs only time. Any call may raise Transient. Thread-safe."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key; None if it is missing."""

    def put_many(self, values: Mapping[bytes, bytes], *, seconds: int) -> None:
        """Keep values for `seconds`, or shorter if the cache runs out of room."""

    def close(self) -> None:
        """Close the connections."""


class Source(Protocol):
    """A corpus as files and rows."""

    def inspect(self, wanted: Sequence[str] | None = None) -> dict[str, FieldType]:
        """Return the types of the `wanted` columns (None: all), as far as the files define them. Always reads the first file.

        Raises:
            BadInput: there is no file or it is unreadable, key or content is missing, or no file has a wanted column (names those it has).
        """

    def spans(self) -> Iterator[Span]:
        """Cut the source into spans, streamed; reads only listings and footers.

        Raises:
            BadInput: a file is unreadable or truncated.
        """

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        """Yield the shard's rows in order, in batches bounded by rows and bytes, with the wanted columns only; metadata may be missing.

        An unreadable row (a line that is not UTF-8) has the reason in the column `tasks.adapters.rows.row_schema.REASON_COLUMN`,
        which is null for all other rows. Findings that concern no single row (members of a tar that are not read) come with a
        last batch of zero rows (`tasks.adapters.rows.batch_findings`).

        Raises:
            BadInput: the file is unreadable from some position on (names file and position).
            Permanent: the file is no longer the planned version.
        """


class Target(Protocol):
    """A server of collections, with its capabilities and the aliases that searches use. Connects at the first call."""

    @property
    def address(self) -> str:
        """The address for people, without password and token."""

    @property
    def overcounts(self) -> bool:
        """Whether counts may be too high for a while after upserts, so that a wrong count should be repeated."""

    def reach(self, alias: str) -> None:
        """Check what can be checked without the encoder; writes nothing.

        Raises:
            BadInput: the target does not answer or refuses the token, or the alias is the name of a collection.
        """

    def check(self, spec: CollectionSpec) -> None:
        """Check that the server supports a collection; writes nothing.

        Raises:
            BadInput: the server lacks the index, the vector type or a field type; names it and what to choose.
        """

    def collection(self, name: str) -> Collection:
        """Return the collection of this name, whether it exists or not; sends no request."""

    def names(self) -> list[str]:
        """Return the names of all collections, in no particular order."""

    def drop(self, name: str) -> bool:
        """Drop a collection. False: nothing was done, because it does not exist or an alias points to it."""

    def resolve(self, alias: str) -> str | None:
        """Return the collection that an alias points to, or None."""

    def point(self, alias: str, collection: str) -> None:
        """Point an alias at a collection atomically: searches see either the old or the new one.

        Raises:
            BadInput: a collection, not an alias, has that name.
            Permanent: there is no such collection; the alias is unchanged.
        """

    def bulk_loader(self) -> BulkLoader | None:
        """Return the loader that fills collections by import; None: this kind of target has none."""

    def close(self) -> None:
        """Release the connection and its resources; the next call connects again."""


class Collection(Protocol):
    """One collection of a target. Thread-safe; every write is idempotent by key."""

    @property
    def name(self) -> str:
        """The name at the target."""

    @property
    def target(self) -> Target:
        """The server of the collection; closing it releases the collection, too."""

    @property
    def throttle(self) -> Throttle:
        """Limits upserts as the server asks for it, and counts them."""

    def describe(self) -> CollectionSpec | None:
        """Return the specification of the existing collection, or None if there is none."""

    def check(self, spec: CollectionSpec) -> CollectionSpec | None:
        """Check that an existing collection fits the specification, and return the result of `describe`; writes nothing.

        Raises:
            BadInput: dimension, metric, model or a field's type differ (names both), or the alias is the name of a collection.
        """

    def identity(self) -> str | None:
        """Return the collection's random id; "" if it was created before ids existed; None if there is no collection."""

    def ensure(self, spec: CollectionSpec) -> str:
        """Create the collection if it does not exist, and return its identity.

        Raises:
            BadInput: as `check`.
        """

    def upsert(self, rows: pa.Table) -> int:
        """Upsert rows (columns named as the collection's fields), each key once; returns when acknowledged.

        Returns how many texts were cut to fit the stored field (65,535 bytes); their vectors are of the whole text.
        """

    def updates_fields(self) -> bool:
        """Whether `upsert_fields` can be tried."""

    def upsert_fields(self, rows: pa.Table) -> int:
        """Update every field but the vector, which is not sent or changed, of rows whose keys and correct vectors are stored.

        Raises:
            Permanent: a key is missing, so that its row would have no vector; nothing of its batch is written.
        """

    def reindex(self, spec: CollectionSpec) -> str | None:
        """Rebuild the vector index if it is not the spec's; returns how it differed, or None. Some servers block searches meanwhile."""

    def flush_and_index(self) -> None:
        """Finish loading: load and index the collection, make all writes readable, and flush once after many rows."""

    def count(self, shard: str | None = None) -> int:
        """Count rows with strong consistency: of one shard, or all."""

    def keys(self, shard: str) -> Iterator[str]:
        """Yield the keys of all rows of a shard, in pages."""

    def fetch(self, keys: list[str]) -> tuple[list[str], np.ndarray]:
        """Return those of the keys that exist, and their vectors in the same order: float32 of shape (found, dim)."""

    def shards_of(self, keys: list[str]) -> dict[str, str]:
        """Return the shard of each key that exists."""

    def values_of(self, keys: list[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return some fields of each key that exists."""

    def count_beyond(self, known: Iterable[str]) -> int:
        """Count the rows of all other shards, with strong consistency."""

    def strangers(self, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield key and shard of every row of other shards, in pages; each key once."""

    def compare(self, rows: pa.Table, *, doubled: bool = True) -> Compared:
        """Compare stored rows with what upserting `rows` would have stored.

        Rounding, cut texts, and the substitute for a null where the collection has no nulls do not count as differences.

        Args:
            rows: as for `upsert`.
            doubled: also look for keys that occur more than once. Not needed if the count of all rows is right.
        """

    def search(
        self, vectors: np.ndarray, k: int, *, expression: str = "", fields: Iterable[str] = (), one_of_each: str | None = None
    ) -> list[list[Hit]]:
        """Return the k nearest rows of each query; vectors: float32 of shape (queries, dim).

        `one_of_each`: a field to group by, of which only the nearest row of each value is returned. If the server, or its index, cannot
        do that, the hits are the nearest rows, ungrouped (see `tasks.domain.target.document_hits`).
        """

    # The next three are only for collections created with full text; other targets need not have them.

    def search_text(self, texts: Sequence[str], k: int, *, expression: str = "", fields: Iterable[str] = ()) -> list[list[Hit]]:
        """Return the k best rows of each query by words (BM25), of those that contain any of the words."""

    def search_hybrid(
        self, vectors: np.ndarray, texts: Sequence[str], k: int, fusion: Fusion, *, expression: str = "", fields: Iterable[str] = ()
    ) -> list[list[Hit]]:
        """Return the k best rows of each query by vector and text, one of each a query; each side gives max(`CANDIDATES`, k) candidates."""

    def found_by_words(self, texts: Mapping[str, str]) -> set[str]:
        """Return the keys of those rows that a search for words of their text finds. `texts`: by key."""

    def lost(self) -> list[str]:
        """Describe what the collection was created with and no longer has, such as a dropped field."""

    def delete_shard(self, shard: str) -> None:
        """Delete every row of a shard. Servers that delete by key (2.3.5) also delete other rows of those keys."""

    def delete_keys(self, keys: list[str]) -> None:
        """Delete every row of these keys."""


class EncodingService(Protocol):
    """The common interface of an engine and its encoders. Opened for one run. Thread-safe."""

    def start(self) -> None:
        """Start loading the encoder, unless it is loaded; returns at once."""

    def facts(self) -> EncoderFacts:
        """Wait for the encoder and return its facts. Raises BadInput or Permanent if it can never be loaded, else Transient."""

    def progress(self) -> EncodingProgress:
        """Return the progress without waiting; called every second."""

    def release(self, *, wait: bool = False) -> None:
        """Free the devices soon, with `wait` before returning, because no more work is expected. Later work is still done."""

    def close(self) -> None:
        """Stop everything; unfinished work fails with Transient. May be called again."""


class Engine(EncodingService, Protocol):
    """Encodes groups of shards on one or many machines and emits events. Never retries a group: the caller may ("One retry owner")."""

    @property
    def width(self) -> int:
        """The number of concurrent groups that keeps the engine busy."""

    def expect(self, rows: int | None) -> None:
        """Set the number of source rows to encode; None: unknown. Pieces get smaller towards the end."""

    def encode(self, group: ShardGroup) -> None:
        """Seal the shards of a group, or amend their seals. Emits an event for each committed shard; a failed shard does not stop others.

        Raises:
            Permanent, BadInput: the first permanent failure of a shard, raised after all other shards are done.
            Transient, OutcomeUnknown: a retry may succeed; committed shards stay committed.
        """

    def load(self, group: LoadGroup) -> None:
        """Load sealed shards into a collection by the ledger's rules, and skip shards without a seal.

        Emits an event for each shard once its ledger entry is written; a failed shard does not stop others.

        Raises:
            Permanent, BadInput: a shard cannot be loaded, or the host sees another collection; the first error, after all others are done.
            Transient, OutcomeUnknown: a retry may succeed; loaded shards stay loaded.
        """

    def measure(self, rows: pa.Table) -> Observation:
        """Measure the speed by encoding rows, in the form of `tasks.adapters.rows.row_schema`, for some seconds. Raises as `facts`."""


class Encoders(EncodingService, Protocol):
    """Turn pieces into parts on one machine. `pace` counts the work and gives the size of the next piece to the code that cuts it."""

    pace: Throughput

    def submit(self, piece: Piece) -> Future[Part]:
        """Queue a piece; the future is done when its part is in the store. Waits while the queue is full, which bounds the reader.

        The future fails with Permanent if the piece can never be encoded, with Transient if a retry may succeed. So does the
        call if the encoder cannot be loaded, was given up or is closed.
        """
