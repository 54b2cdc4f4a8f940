"""The ledger of one corpus under one encoder: which shards each collection contains, owners of keys, and proofs.

All its documents are replaceable: they record the state of collections, which change. Every method raises the store's errors, and
Permanent with the key if an object is damaged or of another format.
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
    """The replaceable documents of a checkpoint. Thread-safe. A target is a collection's fingerprint, see `tasks.domain.target.collection`.

    Args:
        store: the store of the checkpoint.
        corpus: name of the corpus.
        fingerprint: fingerprint of the encoder.
        damages: records unreadable documents, which count as absent; without it, they raise Unreadable.
    """

    def __init__(self, store: Store, corpus: str, fingerprint: str, damages: Damages | None = None) -> None:
        self.store, self.damages = store, damages
        self.layout = Layout(corpus=corpus, fingerprint=fingerprint)

    def read(self, key: str, kind: type[V], check: Callable[[V], object] | None = None) -> V | None:
        """Read the document under a key, or None. `check`: raises Permanent if it does not belong there."""
        return read_document(self.store, key, kind, damages=self.damages, check=check)

    # Loads

    def intend_load(self, target: str, intent: Loaded) -> None:
        """Record that a shard's rows are about to be sent, or that its entry is not trusted; see `LoadState`.

        The intent stays beside the entry until the shard is loaded, so that it survives a killed run.
        """
        write_document(self.store, self.layout.intent(target, intent.shard), intent)

    def record_load(self, target: str, entry: Loaded) -> None:
        """Record that a collection acknowledged all rows of a shard."""
        write_document(self.store, self.layout.loaded(target, entry.shard), entry)
        self.store.delete(self.layout.intent(target, entry.shard))

    def forget_load(self, target: str, shard: str) -> None:
        """Remove a shard from the ledger, after all its rows left the collection."""
        self.store.delete(self.layout.loaded(target, shard))
        self.store.delete(self.layout.intent(target, shard))

    def record_loads(self, target: str, entries: Iterable[Loaded]) -> Iterator[Loaded]:
        """Record many loads concurrently; yields each entry after it is written."""

        def record(entry: Loaded) -> Loaded:
            self.record_load(target, entry)
            return entry

        return ahead(record, entries)

    def distrust_loads(self, target: str, shards: Iterable[str], state: LoadState) -> None:
        """Mark shards to be loaded again before they are trusted; keeps the rest of their entries."""

        def distrust(shard: str) -> None:
            entry = self.read_load(target, shard)
            if entry and entry.state != state:
                self.intend_load(target, entry.model_copy(update={"state": state}))

        for _ in ahead(distrust, shards):
            pass

    def loads(self, target: str, *, but: Container[str] = ()) -> Iterator[Loaded]:
        """Stream the entries of all shards that may have rows in the collection, without reading those in `but`."""
        trusted, intended = self._listed(target)
        shards = (shard for shard, _ in groupby(merge(trusted, intended)) if shard not in but)
        return (entry for entry in ahead(lambda shard: self.read_load(target, shard, intended=shard in intended), shards) if entry)

    def loaded_ids(self, target: str) -> DigestSet:
        """Return the shards with trusted loads, from one listing."""
        trusted, intended = self._listed(target)
        return DigestSet(shard for shard in trusted if shard not in intended)

    def _listed(self, target: str) -> tuple[DigestSet, DigestSet]:
        """Return the shards with an entry, and the shards with an intent."""
        folder, intended = self.layout.loads(target), list[str]()

        def entries() -> Iterator[str]:
            for stored in self.store.list(folder):
                shard, _, kind = stored.key.removeprefix(folder).partition(".")
                if kind == "intent.json":
                    intended.append(shard)
                elif kind == "json":
                    yield shard

        return DigestSet(entries()), DigestSet(intended)

    def noted_ids(self, target: str) -> Iterator[str]:
        """Yield every shard in the ledger, in order."""
        return (shard for shard, _ in groupby(merge(*self._listed(target))))

    def read_load(self, target: str, shard: str, *, intended: bool = True) -> Loaded | None:
        """Return a shard's intent, which is newer, or else its entry.

        An entry of another shard under its name is damaged; if an intent is damaged, the entry is not trusted.
        `intended`: False if a listing shows no intent.
        """
        intent_key, damages = self.layout.intent(target, shard), self.damages
        # This run has handled the damage, and may have loaded the shard since.
        handled = damages is not None and damages.mends and intent_key in damages.keys
        intent = self.read(intent_key, Loaded, lambda entry: _is_of(entry, shard)) if intended else None
        if intent:
            return intent
        entry = self.read(self.layout.loaded(target, shard), Loaded, lambda entry: _is_of(entry, shard))
        if entry and damages and not handled and intent_key in damages.keys:
            entry = entry.model_copy(update={"state": "doubted"})
            if damages.mends:
                self.intend_load(target, entry)
        return entry

    def loads_of_others(self, target: str) -> Iterator[str]:
        """Yield shards of other corpora of this store in the same collection, by their ledgers. Lists the whole store."""
        entry = re.compile(rf"(?P<corpus>[^/]+)/[^/]+/loads/{re.escape(target)}/(?P<shard>[0-9a-f]{{32}})(\.intent)?\.json")
        for stored in self.store.list(""):
            match = entry.fullmatch(stored.key)
            if match and match["corpus"] != self.layout.corpus:
                yield match["shard"]

    # Collection addresses, and roots of the source

    def record_address(self, address: str, target: str) -> None:
        """Record the ledger of the collection at an address, for commands that cannot query the collection."""
        write_document(self.store, self.layout.ledger_at(address), Standing(target=target))

    def read_address(self, address: str) -> str | None:
        """Return the last recorded target of an address, or None."""
        record = self.read(self.layout.ledger_at(address), Standing)
        return record.target if record else None

    def record_root(self, target: str, root: str) -> None:
        """Record a root that rows of the collection are read from."""
        write_document(self.store, self.layout.root_of(target, root), Root(root=root))

    def forget_root(self, target: str, root: str) -> None:
        """Remove a root: no row of the collection comes from it."""
        self.store.delete(self.layout.root_of(target, root))

    def roots(self, target: str) -> set[str]:
        """Return all roots that rows of the collection were read from. If a record is damaged, uses the entries; a run rewrites it."""
        keys = [stored.key for stored in self.store.list(self.layout.roots(target))]
        recorded = {record.root for key in keys if (record := self.read(key, Root, partial(self._check_root, target, key)))}
        if self.damages is None or set(keys).isdisjoint(self.damages.keys):
            return recorded
        from_entries = {root for entry in self.loads(target) if (root := entry.root)}
        for root in from_entries - recorded if self.damages.mends else ():
            self.record_root(target, root)
        return recorded | from_entries

    def _check_root(self, target: str, key: str, record: Root) -> None:
        if self.layout.root_of(target, record.root) != key:
            raise Permanent(f"root {record.root[:200]!r} under the name of another")

    # Imports

    def attempts(self, address: str) -> dict[str, tuple[ImportAttempt, float]]:
        """Return the unfinished imports into a collection by run, each with the time of its last write by the store's clock."""
        keys = (self.layout.attempt(address), self.layout.imports(address))  # an older version's first: a newer document overrides it
        listed = [stored for key in keys for stored in self.store.list(key)]
        read = [(self.read(stored.key, ImportAttempt), stored.modified) for stored in listed]
        return {attempt.run: (attempt, modified) for attempt, modified in read if attempt}

    def record_attempt(self, address: str, attempt: ImportAttempt) -> None:
        """Record the progress of an import; each run has its own document."""
        write_document(self.store, self.layout.importing(address, attempt.run), attempt)

    def forget_attempt(self, address: str, run: str) -> None:
        """Remove a run's import after it ended, successfully or not."""
        old = self.read(self.layout.attempt(address), ImportAttempt)
        if old and old.run == run:
            self.store.delete(self.layout.attempt(address))
        self.store.delete(self.layout.importing(address, run))

    # Owners of keys that occur in several shards

    def read_owners(self, target: str) -> Owners | None:
        """Return the last assignment of owners; None before the first."""
        return self.read(self.layout.owners(target), Owners)

    def owners_to_rely_on(self, target: str) -> Owners | None:
        """Return the assignment if its table of lost rows is intact; otherwise it counts as damaged."""
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
        """Store the assignment and the table of duplicate rows, which is written first; the old table is removed last.

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
        """Return the table of lost rows: a Parquet file with id, shard, part."""
        data = self.store.read(owners.table) if owners.table else None
        if data is None:
            raise Unreadable(f"{self.store.url}/{owners.table}: the table of duplicates is missing: `kitestring run` writes it again")
        return data

    # Proofs

    def record_proof(self, target: str, proof: Proof) -> None:
        """Store the proof of a verification."""
        write_document(self.store, self.layout.verified(target), proof)

    def read_proof(self, target: str) -> Proof | None:
        """Return the last proof."""
        return self.read(self.layout.verified(target), Proof)


def _is_of(entry: Loaded, shard: str) -> None:
    if entry.shard != shard:
        raise Permanent(f"an entry of shard {entry.shard[:200]!r} under the name of another")
