"""The ledger of one corpus under one encoder: which shards are in which collection, who owns a key there, and whether it is proved.

Everything here may be replaced: it records the state of collections, which change. Every method raises the store's errors, and Permanent
with the key where an object is damaged or of another format.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from heapq import merge
from itertools import groupby
from typing import TypeVar

from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.checkpoint.duplicate_finder import rows_of_table
from tasks.adapters.checkpoint.json_documents import read_document, write_document
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.digest import digest
from tasks.domain.errors import Permanent, Unreadable
from tasks.domain.ports import Store
from tasks.domain.shards.duplicates import Owners
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.domain.shards.layout import Layout
from tasks.domain.shards.seal import Loaded, LoadState, Root, Standing
from tasks.domain.strict import Strict
from tasks.domain.target.proof import Proof

V = TypeVar("V", bound=Strict)


class Ledger:
    """Many threads may use one. A target is the fingerprint of a collection, see `tasks.domain.target.collection`.

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

    def intend_load(self, target: str, intent: Loaded) -> None:
        """Record that a shard's rows are about to be sent, or that its entry is not to be relied on; see `LoadState`.

        The intent is kept beside the entry until the shard is loaded, so that a killed run leaves it behind.
        """
        write_document(self.store, self.layout.intent(target, intent.shard), intent)

    def record_load(self, target: str, entry: Loaded) -> None:
        """Note that a shard's rows were all acknowledged by a collection."""
        write_document(self.store, self.layout.loaded(target, entry.shard), entry)
        self.store.delete(self.layout.intent(target, entry.shard))

    def forget_load(self, target: str, shard: str) -> None:
        """Take a shard out of the ledger, when none of its rows is left in the collection."""
        self.store.delete(self.layout.loaded(target, shard))
        self.store.delete(self.layout.intent(target, shard))

    def record_loads(self, target: str, entries: Iterable[Loaded]) -> Iterator[Loaded]:
        """The same for many, several at a time; each comes back when it is written."""

        def record(entry: Loaded) -> Loaded:
            self.record_load(target, entry)
            return entry

        return ahead(record, entries)

    def distrust_loads(self, target: str, shards: Iterable[str], state: LoadState) -> None:
        """Mark shards to be loaded again before they are relied on; keeps what is known of their rows."""

        def distrust(shard: str) -> None:
            entry = self.read_load(target, shard)
            if entry and entry.state != state:
                self.intend_load(target, entry.model_copy(update={"state": state}))

        for _ in ahead(distrust, shards):
            pass

    def loads(self, target: str, *, but: Container[str] = ()) -> Iterator[Loaded]:
        """What the ledger knows of every shard that may have rows in the collection, less some, which are not even read; streams."""
        trusted, intended = self._listed(target)
        shards = (shard for shard, _ in groupby(merge(trusted, intended)) if shard not in but)
        return (entry for entry in ahead(lambda shard: self.read_load(target, shard, intended=shard in intended), shards) if entry)

    def loaded_ids(self, target: str) -> DigestSet:
        """The shards that are loaded and may be relied on, from one listing."""
        trusted, intended = self._listed(target)
        return DigestSet(shard for shard in trusted if shard not in intended)

    def _listed(self, target: str) -> tuple[DigestSet, DigestSet]:
        """Shards that have an entry, and shards that have an intent."""
        folder, intended = self.layout.loads(target), list[str]()

        def entries() -> Iterator[str]:
            for found in self.store.list(folder):
                shard, _, kind = found.key.removeprefix(folder).partition(".")
                if kind == "intent.json":
                    intended.append(shard)
                elif kind == "json":
                    yield shard

        return DigestSet(entries()), DigestSet(intended)

    def noted_ids(self, target: str) -> Iterator[str]:
        """Every shard that the ledger knows something of, in order."""
        return (shard for shard, _ in groupby(merge(*self._listed(target))))

    def read_load(self, target: str, shard: str, *, intended: bool = True) -> Loaded | None:
        """What the ledger knows of a shard: its intent where there is one, since that is the younger, or its entry.

        An entry of another shard under its name is damage; and where an intent is damaged, the entry is not relied on.
        `intended`: False where a listing shows no intent.
        """
        place, damages = self.layout.intent(target, shard), self.damages
        known = damages is not None and damages.mends and place in damages.keys  # this run has seen to it, and may have loaded since
        intent = self.read(place, Loaded, lambda entry: _is_of(entry, shard)) if intended else None
        if intent:
            return intent
        entry = self.read(self.layout.loaded(target, shard), Loaded, lambda entry: _is_of(entry, shard))
        if entry and damages and not known and place in damages.keys:
            entry = entry.model_copy(update={"state": "doubted"})
            if damages.mends:
                self.intend_load(target, entry)
        return entry

    def loads_of_others(self, target: str) -> Iterator[str]:
        """Shards that other corpora of this store have in the same collection, by their own ledgers. Lists the whole store."""
        entry = re.compile(rf"(?P<corpus>[^/]+)/[^/]+/loads/{re.escape(target)}/(?P<shard>[0-9a-f]{{32}})(\.intent)?\.json")
        for found in self.store.list(""):
            match = entry.fullmatch(found.key)
            if match and match["corpus"] != self.layout.corpus:
                yield match["shard"]

    # Which collection it is of, and where its rows were read from

    def record_address(self, address: str, target: str) -> None:
        """Record whose ledger belongs to the collection at an address, for commands that cannot ask the collection."""
        write_document(self.store, self.layout.ledger_at(address), Standing(target=target))

    def read_address(self, address: str) -> str | None:
        """The last record for an address."""
        found = self.read(self.layout.ledger_at(address), Standing)
        return found.target if found else None

    def record_root(self, target: str, root: str) -> None:
        """Note a place that rows of the collection are read from."""
        write_document(self.store, self.layout.root_of(target, root), Root(root=root))

    def forget_root(self, target: str, root: str) -> None:
        """Forget a place: no row of the collection is from there."""
        self.store.delete(self.layout.root_of(target, root))

    def roots(self, target: str) -> set[str]:
        """Every place that rows of the collection were read from; where the note of one is damaged, by the entries, and a run makes it anew."""
        keys = [found.key for found in self.store.list(self.layout.roots(target))]
        noted = {found.root for key in keys if (found := self.read(key, Root, partial(self._check_root, target, key)))}
        if self.damages is None or set(keys).isdisjoint(self.damages.keys):
            return noted
        told = {root for entry in self.loads(target) if (root := entry.root)}
        for root in told - noted if self.damages.mends else ():
            self.record_root(target, root)
        return noted | told

    def _check_root(self, target: str, key: str, found: Root) -> None:
        if self.layout.root_of(target, found.root) != key:
            raise Permanent(f"root {found.root[:200]!r} under the name of another")

    # Imports

    def attempts(self, address: str) -> dict[str, tuple[ImportAttempt, float]]:
        """Imports into a collection that have not come to their end, by run, each with when it was last written, by the store's clock."""
        keys = (self.layout.attempt(address), self.layout.imports(address))  # an older version's first: what has replaced it counts
        listed = [found for key in keys for found in self.store.list(key)]
        read = [(self.read(found.key, ImportAttempt), found.modified) for found in listed]
        return {attempt.run: (attempt, modified) for attempt, modified in read if attempt}

    def record_attempt(self, address: str, attempt: ImportAttempt) -> None:
        """Note how far an import is; each run's is a document of its own."""
        write_document(self.store, self.layout.importing(address, attempt.run), attempt)

    def forget_attempt(self, address: str, run: str) -> None:
        """A run's import has ended, one way or the other."""
        old = self.read(self.layout.attempt(address), ImportAttempt)
        if old and old.run == run:
            self.store.delete(self.layout.attempt(address))
        self.store.delete(self.layout.importing(address, run))

    # Owners of keys that come in several shards

    def read_owners(self, target: str) -> Owners | None:
        """The last assignment of owners; None before the first."""
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
            raise Permanent(f"its table of duplicates {owners.table} {'is missing' if data is None else 'is damaged'}")

    def record_owners(self, target: str, owners: Owners) -> None:
        """Store the assignment."""
        write_document(self.store, self.layout.owners(target), owners)

    def replace_owners(self, target: str, owners: Owners, lost: bytes | None, before: Owners | None) -> None:
        """Store the assignment and the duplicate rows; the table is written first, and the old one removed last.

        An unreferenced table is never referenced again, even by an equal assignment: `gc` may be removing it.
        """
        settled = digest({"covers": owners.covers, "policy": owners.policy})
        again = before and before.table and f"/{settled}-" in before.table
        table = (before.table if before and again else self.layout.lost(target, f"{settled}-{uuid.uuid4().hex}")) if lost else None
        if lost and table:
            self.store.write(table, lost)
        self.record_owners(target, owners.model_copy(update={"table": table}))
        if before and before.table and before.table != table:
            self.store.delete(before.table)

    def read_lost(self, owners: Owners) -> bytes:
        """The table of rows that shards have lost: a Parquet file with id, shard, part."""
        data = self.store.read(owners.table) if owners.table else None
        if data is None:
            raise Unreadable(f"{self.store.url}/{owners.table}: the table of duplicates is missing: `kitestring run` writes it again")
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
