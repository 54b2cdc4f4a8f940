"""The seams to the outside. Each has a real adapter and an in-memory twin that pass one behaviour suite."""

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

if TYPE_CHECKING:  # arrays are the language between the adapters; the rules never look inside them
    import numpy as np
    import pyarrow as pa


class StoredObject(Strict):
    """One line of a listing."""

    key: str
    size: int
    modified: float  # seconds since 1970, by the store's clock


class Store(Protocol):
    """The checkpoint store. All of it: six verbs over immutable objects."""

    url: str  # for people, and the same string opens it again

    def read(self, key: str) -> bytes | None:
        """The object, or None where there is none."""

    def write(self, key: str, data: bytes | Path) -> None:
        """Put an object, whole or not at all; replaces one that is there."""

    def commit(self, key: str, data: bytes) -> bool:
        """Put an object if there is none. False: somebody else's stands there, untouched."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Objects whose keys begin so, streamed, in no promised order."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """The same for many, in as few calls as the store allows. After an error some may be gone; it may be called again."""


class Cache(Protocol):
    """Values that machines share and nobody needs. Any call may raise Transient; many threads may use one."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key; None where there is none."""

    def put_many(self, values: Mapping[bytes, bytes], *, seconds: int) -> None:
        """Keep values for so many seconds, or less where the cache has no room."""

    def close(self) -> None:
        """Let go of connections."""


class Source(Protocol):
    """A corpus as files and rows."""

    def inspect(self, wanted: Sequence[str] | None = None) -> dict[str, FieldType]:
        """Types of columns, as far as the files tell; the first file is looked at in any case. `wanted`: which; None: all.

        Raises:
            BadInput: nothing there, not readable, key or content is missing, or a wanted column is nowhere (names those that are there).
        """

    def spans(self) -> Iterator[Span]:
        """Cut the source, reading listings and footers only; streams.

        Raises:
            BadInput: a file is unreadable or truncated.
        """

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        """The shard's rows, in order, in batches bounded by rows and bytes, only the wanted columns; metadata may be absent.

        A row that cannot be read as such (a line that is not UTF-8) comes with the reason in the column
        `tasks.adapters.rows.row_schema.REASON_COLUMN`, which is null for all others. What else was seen and concerns no one row
        (members of a tar that are not read) comes with a last batch of no row (`tasks.adapters.rows.batch_findings`).

        Raises:
            BadInput: the file is unreadable from some place on (names file and place).
            Permanent: the file is no longer the version that was planned.
        """


class Target(Protocol):
    """A server of collections: what it can do, and the aliases that searches use. It connects at its first call."""

    @property
    def address(self) -> str:
        """Where it is, for people: no password, no token."""

    @property
    def overcounts(self) -> bool:
        """Whether counts may be too high for a while after upserts, so that they are worth asking again."""

    def reach(self, alias: str) -> None:
        """Find what can be found without knowing the encoder; writes nothing.

        Raises:
            BadInput: the target does not answer or refuses the token, or the alias is the name of a collection.
        """

    def check(self, spec: CollectionSpec) -> None:
        """Find what the server cannot hold of a collection; writes nothing.

        Raises:
            BadInput: an index, a type of vectors or of fields that it lacks; names it and what to choose.
        """

    def collection(self, name: str) -> Collection:
        """The collection of this name, whether it is there or not; asks nothing."""

    def names(self) -> list[str]:
        """Of all collections that are there, in no promised order."""

    def drop(self, name: str) -> bool:
        """Remove a collection. False, with nothing done: it is not there, or an alias leads to it."""

    def resolve(self, alias: str) -> str | None:
        """The collection that an alias points to, or None."""

    def point(self, alias: str, collection: str) -> None:
        """Point an alias at a collection, whatever it pointed to; searches see the one or the other, never neither.

        Raises:
            BadInput: a collection, not an alias, has that name.
            Permanent: there is no such collection; the alias stays where it was.
        """

    def bulk_loader(self) -> BulkLoader | None:
        """What fills collections by import; None: no target of this kind does."""

    def close(self) -> None:
        """Let go of the connection and of what it holds open; the next call connects again."""


class Collection(Protocol):
    """One collection of a target. One object may be used from many threads; every write is idempotent by key."""

    @property
    def name(self) -> str:
        """At the target."""

    @property
    def target(self) -> Target:
        """The server that it is on; closing that lets go of the collection, too."""

    @property
    def throttle(self) -> Throttle:
        """Holds back upserts as far as the server asks for it, and counts them."""

    def describe(self) -> CollectionSpec | None:
        """What is there under the spec's name, or None."""

    def check(self, spec: CollectionSpec) -> CollectionSpec | None:
        """What is there, as `describe`; writes nothing.

        Raises:
            BadInput: it was made otherwise (dimension, metric, model, a field's type; names both), or the alias is
                the name of a collection.
        """

    def identity(self) -> str | None:
        """The random id that it was made with; "" where it was made before there were any; None where there is none."""

    def ensure(self, spec: CollectionSpec) -> str:
        """Make the collection where there is none; its identity.

        Raises:
            BadInput: as `check`.
        """

    def upsert(self, rows: pa.Table) -> int:
        """Put rows (columns named as the collection's fields), each key once; returns when acknowledged.

        Returns how many texts were cut to fit the stored field (65,535 bytes); their vectors are of the whole text.
        """

    def updates_fields(self) -> bool:
        """Whether `upsert_fields` can be tried."""

    def upsert_fields(self, rows: pa.Table) -> int:
        """The same for rows whose keys and right vectors are there already: every field but the vector, which stays as it is and is not sent.

        Raises:
            Permanent: a key is not there, so that its row would have no vector; nothing of its batch is written.
        """

    def reindex(self, spec: CollectionSpec) -> str | None:
        """Build the vector index anew where it is not the spec's: how it differed; None: it is. Searches wait meanwhile where a server needs that."""

    def flush_and_index(self) -> None:
        """After the last row: indexed, loaded, all that was written readable, and where it was much flushed once and indexed."""

    def count(self, shard: str | None = None) -> int:
        """Rows with strong consistency: of one shard, or of all."""

    def keys(self, shard: str) -> Iterator[str]:
        """Every key that carries this shard, in pages."""

    def fetch(self, keys: list[str]) -> tuple[list[str], np.ndarray]:
        """Those of the keys that are there, and their vectors: float32 of shape (found, dim), in the same order."""

    def shards_of(self, keys: list[str]) -> dict[str, str]:
        """The shard that each of the keys carries, for those that are there."""

    def values_of(self, keys: list[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        """Some fields of those of the keys that are there."""

    def count_beyond(self, known: Iterable[str]) -> int:
        """Rows with strong consistency whose shard is none of these."""

    def strangers(self, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Key and shard of every row whose shard is none of these, in pages; a key that comes twice is told once."""

    def compare(self, rows: pa.Table, *, doubled: bool = True) -> Compared:
        """How what is there of these rows differs from what upserting them would have made.

        What the collection rounds or cuts, and what stands for a null where it knows none, is no difference.

        Args:
            rows: as for `upsert`.
            doubled: also look for keys that come more than once. A right count of all rows tells that there are none.
        """

    def search(
        self, vectors: np.ndarray, k: int, *, expression: str = "", fields: Iterable[str] = (), one_of_each: str | None = None
    ) -> list[list[Hit]]:
        """The k nearest of each query; vectors: float32 of shape (queries, dim).

        `one_of_each`: a field of whose values the nearest row alone is wanted. Where a server cannot do that, or not with its index, hits are the
        nearest rows all the same (see `tasks.domain.target.document_hits`).
        """

    # The next three are for collections that were made with full text alone; other targets need not have them.

    def search_text(self, texts: Sequence[str], k: int, *, expression: str = "", fields: Iterable[str] = ()) -> list[list[Hit]]:
        """The k best of each query by words (BM25), of those rows that have any of them."""

    def search_hybrid(
        self, vectors: np.ndarray, texts: Sequence[str], k: int, fusion: Fusion, *, expression: str = "", fields: Iterable[str] = ()
    ) -> list[list[Hit]]:
        """The k best of each query by both, one vector and one text a query; each side gives `CANDIDATES` or k, whatever is more."""

    def found_by_words(self, texts: Mapping[str, str]) -> set[str]:
        """Of rows and their texts by key, those that are found by words of theirs."""

    def lost(self) -> list[str]:
        """What it was made with and no longer has, such as a field that was dropped, in words."""

    def delete_shard(self, shard: str) -> None:
        """Remove every row that carries this shard. A server may delete by key: then other rows of those keys go, too (2.3.5)."""

    def delete_keys(self, keys: list[str]) -> None:
        """Remove every row of these keys."""


class EncodingService(Protocol):
    """What an engine and the encoders within it have in common. Opened for one run; many threads may use one."""

    def start(self) -> None:
        """Begin to load the encoder, where it is not loaded; returns at once."""

    def facts(self) -> EncoderFacts:
        """What the loaded encoder says of itself; waits for it. Raises BadInput or Permanent where it cannot be loaded, else Transient."""

    def progress(self) -> EncodingProgress:
        """How far it is; asked every second, and answered at once."""

    def release(self, *, wait: bool = False) -> None:
        """No more work is expected: devices are free soon, with `wait` on return. Work that comes all the same is done."""

    def close(self) -> None:
        """End everything; what is under way fails with Transient. May be called again."""


class Engine(EncodingService, Protocol):
    """Who encodes groups of shards, here or on many machines, and tells events. It never tries a group again: its caller may ("One retry owner")."""

    @property
    def width(self) -> int:
        """Groups at a time that keep it busy."""

    def expect(self, rows: int | None) -> None:
        """So many source rows are to be encoded in all; None: nobody knows. Towards the end pieces get smaller."""

    def encode(self, group: ShardGroup) -> None:
        """Seal the shards of a group, or amend their seals. Each is told of once it is committed, and one that fails stops no other.

        Raises:
            Permanent, BadInput: a shard failed for good; the first of them, after all others are done.
            Transient, OutcomeUnknown: something passing; what was committed stays when the group is tried again.
        """

    def load(self, group: LoadGroup) -> None:
        """Put sealed shards into a collection, each by the ledger's rules, and tell of it once its entry is written; one that fails stops no other.

        Shards that are not sealed are passed over.

        Raises:
            Permanent, BadInput: a shard cannot be loaded, or the collection is another one from there; the first error, after all others are done.
            Transient, OutcomeUnknown: something passing; what was loaded stays when the group is tried again.
        """

    def measure(self, rows: pa.Table) -> Observation:
        """Encode rows in the form of `tasks.adapters.rows.row_schema` for some seconds: how fast it is. Raises as `facts`."""


class Encoders(EncodingService, Protocol):
    """Who turns pieces into parts, on one machine. `pace` counts, and says how large the next piece should be to whoever cuts it."""

    pace: Throughput

    def submit(self, piece: Piece) -> Future[Part]:
        """Queue a piece; done when its part is in the store. Waits while the queue is full, which bounds the reader.

        The future fails with Permanent where the piece can never be encoded, with Transient where it may be; and so does the
        call where the encoder cannot be loaded, was given up or is closed.
        """
