"""The ledger of one corpus under one encoder: which shards are in which collection, who owns a key there, and whether it is proved.

Everything here may be replaced: it tells of collections, which change. Every method raises the store's errors, and Permanent
with the key where an object is damaged or of another format.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import TypeVar

from tasks.adapters.ahead import ahead
from tasks.adapters.damages import Damages
from tasks.adapters.digest_set import DigestSet
from tasks.adapters.documents import read_document, write_document
from tasks.adapters.key_table import rows_of_table
from tasks.domain.bulk import ImportAttempt
from tasks.domain.digest import digest
from tasks.domain.errors import Permanent, Unreadable
from tasks.domain.layout import Layout
from tasks.domain.owners import Owners
from tasks.domain.ports import Store
from tasks.domain.proof import Proof
from tasks.domain.seal import Loaded
from tasks.domain.strict import Strict

V = TypeVar("V", bound=Strict)


class Ledger:
    """Many threads may use one. A target is the fingerprint of a collection, see `tasks.domain.collection`.

    Args:
        store: the checkpoint.
        corpus: in it.
        fingerprint: of the encoder.
        damages: takes the documents that cannot be read, and they count as absent; without, they raise Unreadable.
    """

    def __init__(self, store: Store, corpus: str, fingerprint: str, damages: Damages | None = None) -> None:
        self.store, self.damages = store, damages
        self.layout = Layout(corpus=corpus, fingerprint=fingerprint)

    def read(self, key: str, kind: type[V], check: Callable[[V], object] | None = None) -> V | None:
        """The document under a key, or None. `check`: raises Permanent where it is not right in this place."""
        return read_document(self.store, key, kind, damages=self.damages, check=check)

    # Loads

    def record_load(self, target: str, entry: Loaded) -> None:
        """Note that a shard's rows were all acknowledged by a collection."""
        write_document(self.store, self.layout.loaded(target, entry.shard), entry)

    def forget_load(self, target: str, shard: str) -> None:
        """Take a shard out of the ledger."""
        self.store.delete(self.layout.loaded(target, shard))

    def record_loads(self, target: str, entries: Iterable[Loaded]) -> Iterator[Loaded]:
        """The same for many, several at a time; each comes back when it is written."""

        def record(entry: Loaded) -> Loaded:
            self.record_load(target, entry)
            return entry

        return ahead(record, entries)

    def forget_loads(self, target: str, shards: Iterable[str]) -> None:
        """Take many shards out of the ledger."""
        for _ in ahead(lambda shard: self.forget_load(target, shard), shards):
            pass

    def loads(self, target: str, *, but: Container[str] = ()) -> Iterator[Loaded]:
        """The entries of the ledger, less those of some shards, which are not even read; streams."""
        shards = (shard for shard in self._listed_loads(target) if shard not in but)
        return (entry for entry in ahead(lambda shard: self.read_load(target, shard), shards) if entry)

    def loaded_ids(self, target: str) -> DigestSet:
        """The shards that the ledger names, from one listing."""
        return DigestSet(self._listed_loads(target))

    def _listed_loads(self, target: str) -> Iterator[str]:
        folder, others = self.layout.loads(target), (self.layout.verified(target), self.layout.attempt(target))
        return (found.key.removeprefix(folder).removesuffix(".json") for found in self.store.list(folder) if found.key not in others)

    def read_load(self, target: str, shard: str) -> Loaded | None:
        """What the ledger knows of a shard. An entry of another shard's that stands under its name is damage."""
        return self.read(self.layout.loaded(target, shard), Loaded, lambda entry: _is_of(entry, shard))

    def read_attempt(self, target: str) -> ImportAttempt | None:
        """The import into a collection that has not come to its end, or None."""
        return self.read(self.layout.attempt(target), ImportAttempt)

    def record_attempt(self, target: str, attempt: ImportAttempt) -> None:
        """Note how far an import is."""
        write_document(self.store, self.layout.attempt(target), attempt)

    def forget_attempt(self, target: str) -> None:
        """An import has ended, one way or the other."""
        self.store.delete(self.layout.attempt(target))

    # Owners of keys that come in several shards

    def read_owners(self, target: str) -> Owners | None:
        """What was settled last; None where no run came so far."""
        return self.read(self.layout.owners(target), Owners)

    def owners_to_rely_on(self, target: str) -> Owners | None:
        """The same, where its table of lost rows is there and whole; otherwise it is damaged as well."""
        return self.read(self.layout.owners(target), Owners, self._check_table)

    def _check_table(self, owners: Owners) -> None:
        if owners.table is None:
            return
        lost = sum(sum(each.parts.values()) for each in owners.lost.values())
        data = self.store.read(owners.table)
        if data is None or rows_of_table(data) != lost:
            raise Permanent(f"its table of duplicates {owners.table} {'is gone' if data is None else 'is damaged'}")

    def record_owners(self, target: str, owners: Owners) -> None:
        """Write down what is settled."""
        write_document(self.store, self.layout.owners(target), owners)

    def replace_owners(self, target: str, owners: Owners, lost: bytes | None, before: Owners | None) -> None:
        """Write down what is settled and which rows are lost by it; the table comes first, and the old one goes last."""
        table = self.layout.lost(target, digest({"covers": owners.covers, "policy": owners.policy})) if lost else None
        if lost and table:
            self.store.write(table, lost)
        self.record_owners(target, owners.model_copy(update={"table": table}))
        if before and before.table and before.table != table:
            self.store.delete(before.table)

    def read_lost(self, owners: Owners) -> bytes:
        """The table of rows that shards have lost: a Parquet file with id, shard, part."""
        data = self.store.read(owners.table) if owners.table else None
        if data is None:
            raise Unreadable(f"{self.store.url}/{owners.table}: the table of duplicates is gone: `kitestring run` makes it again")
        return data

    # Proofs

    def record_proof(self, target: str, proof: Proof) -> None:
        """Keep what `verify` found."""
        write_document(self.store, self.layout.verified(target), proof)

    def read_proof(self, target: str) -> Proof | None:
        """What `verify` found last."""
        return self.read(self.layout.verified(target), Proof)


def _is_of(entry: Loaded, shard: str) -> None:
    if entry.shard != shard:
        raise Permanent(f"an entry of shard {entry.shard[:200]!r} under the name of another")
