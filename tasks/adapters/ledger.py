"""The ledger of one corpus under one encoder: which shards are in which collection, who owns a key there, and whether it is proved.

Everything here may be replaced: it tells of collections, which change. Every method raises the store's errors, and Permanent
with the key where an object is damaged or of another format.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator

from tasks.adapters.ahead import ahead
from tasks.adapters.digest_set import DigestSet
from tasks.adapters.documents import read_document, write_document
from tasks.domain.bulk import ImportAttempt
from tasks.domain.digest import digest
from tasks.domain.errors import Permanent
from tasks.domain.layout import Layout
from tasks.domain.owners import Owners
from tasks.domain.ports import Store
from tasks.domain.proof import Proof
from tasks.domain.seal import Loaded, Seal

DOUBTED = ".doubted"


class Ledger:
    """Many threads may use one. A target is the fingerprint of a collection, see `tasks.domain.collection`."""

    def __init__(self, store: Store, corpus: str, fingerprint: str) -> None:
        self.store = store
        self.layout = Layout(corpus=corpus, fingerprint=fingerprint)

    # Loads

    def record_load(self, target: str, entry: Loaded) -> None:
        """Note that a shard's rows were all acknowledged by a collection."""
        write_document(self.store, self.layout.loaded(target, entry.shard), entry)
        self.store.delete(self.layout.doubted(target, entry.shard))

    def forget_load(self, target: str, shard: str) -> None:
        """Take a shard out of the ledger."""
        self.store.delete(self.layout.loaded(target, shard))
        self.store.delete(self.layout.doubted(target, shard))

    def doubt_loads(self, target: str, shards: Iterable[str]) -> None:
        """Note that a collection does not show these shards as they were loaded: they are due to be loaded again, and remembered until then."""
        for _ in ahead(lambda shard: self._doubt(target, shard), shards):
            pass

    def trust_load(self, target: str, seal: Seal) -> None:
        """A doubted shard was loaded again."""
        entry = self._entry(target, seal.shard)
        if entry is not None and not entry.seal:
            self.record_load(target, entry.model_copy(update={"seal": seal.digest}))

    def _doubt(self, target: str, shard: str) -> None:
        entry = read_document(self.store, self.layout.loaded(target, shard), Loaded)
        if entry is not None:
            write_document(self.store, self.layout.doubted(target, shard), entry.model_copy(update={"seal": ""}))
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
        listed = (name.removesuffix(DOUBTED) for name in self._listed_loads(target))
        shards = (shard for shard in listed if shard not in but)
        return (entry for entry in ahead(lambda shard: self._entry(target, shard), shards) if entry)

    def loaded_ids(self, target: str) -> DigestSet:
        """The shards that the ledger names and does not doubt, from one listing."""
        return DigestSet(self._listed_loads(target))

    def _listed_loads(self, target: str) -> Iterator[str]:
        folder, others = self.layout.loads(target), (self.layout.verified(target), self.layout.attempt(target))
        return (found.key.removeprefix(folder).removesuffix(".json") for found in self.store.list(folder) if found.key not in others)

    def _entry(self, target: str, shard: str) -> Loaded | None:
        sure = read_document(self.store, self.layout.loaded(target, shard), Loaded)
        return sure or read_document(self.store, self.layout.doubted(target, shard), Loaded)

    def loads_of_others(self, target: str) -> Iterator[str]:
        """Shards that other corpora of this store have in the same collection, by their own ledgers. Lists the whole store."""
        entry = re.compile(rf"(?P<corpus>[^/]+)/[^/]+/loads/{re.escape(target)}/(?P<shard>[0-9a-f]{{32}})(\.doubted)?\.json")
        for found in self.store.list(""):
            match = entry.fullmatch(found.key)
            if match and match["corpus"] != self.layout.corpus:
                yield match["shard"]

    def read_attempt(self, target: str) -> ImportAttempt | None:
        """The import into a collection that has not come to its end, or None."""
        return read_document(self.store, self.layout.attempt(target), ImportAttempt)

    def record_attempt(self, target: str, attempt: ImportAttempt) -> None:
        """Note how far an import is."""
        write_document(self.store, self.layout.attempt(target), attempt)

    def forget_attempt(self, target: str) -> None:
        """An import has ended, one way or the other."""
        self.store.delete(self.layout.attempt(target))

    # Owners of keys that come in several shards

    def read_owners(self, target: str) -> Owners | None:
        """What was settled last; None where no run came so far."""
        return read_document(self.store, self.layout.owners(target), Owners)

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
            raise Permanent(
                f"{self.store.url}/{owners.table}: the table of duplicates is gone: remove {self.layout.root}/owners/ and run again"
            )
        return data

    # Proofs

    def record_proof(self, target: str, proof: Proof) -> None:
        """Keep what `verify` found."""
        write_document(self.store, self.layout.verified(target), proof)

    def read_proof(self, target: str) -> Proof | None:
        """What `verify` found last."""
        return read_document(self.store, self.layout.verified(target), Proof)
