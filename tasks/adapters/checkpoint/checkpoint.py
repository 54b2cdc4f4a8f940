"""Typed access to the checkpoint of one corpus under one encoder.

Committed documents never change; replaceable ones are in `tasks.adapters.checkpoint.ledger`. Every method raises the store's errors, and
Newer if a newer version wrote a document; damaged documents go to `damages`, or raise Unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from functools import reduce
from itertools import count
from operator import add

import pyarrow as pa

from tasks.adapters.checkpoint.condemned import condemned
from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.checkpoint.json_documents import commit_document, read_document
from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.checkpoint.listing import Survey, UpToDate, survey_listing
from tasks.adapters.checkpoint.part_files import part_of, read_part, sha256_of_part
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import Damaged, Permanent
from tasks.domain.ports import Store, StoredObject
from tasks.domain.served_identity import other_server
from tasks.domain.shards.amendment import Amendment, amended, amended_once
from tasks.domain.shards.layout import RETRY, encoder_pin, part_rows, writer_of
from tasks.domain.shards.resume import without_overlap
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import Loaded, Part, Seal
from tasks.domain.target.fields import SettledColumns

_ATTEMPT = re.compile(r"(?!\.\.?/)[^/]+/part-\d+-\d+\.parquet")  # below a shard's folder


class Checkpoint(Ledger):
    """A corpus' vectors under one encoder's fingerprint, and the ledger of collections with them. Thread-safe."""

    # The encoder

    def read_encoder(self) -> EncoderRecord | None:
        """Return the encoder of the fingerprint; None before the first seal."""
        return self._own(self.read_any_encoder())

    def read_any_encoder(self) -> EncoderRecord | None:
        """Return the stored encoder, even if its fingerprint differs."""
        return self.read(self.layout.encoder, EncoderRecord)

    def put_encoder(self, record: EncoderRecord) -> EncoderRecord:
        """Commit the encoder of the fingerprint. Returns the stored record."""
        self._own(record)
        return self._own(commit_document(self.store, self.layout.encoder, record, damages=self.damages)) or record

    def _own(self, record: EncoderRecord | None) -> EncoderRecord | None:
        if record and record.identity.fingerprint != self.layout.fingerprint:
            raise Permanent(
                f"{self.store.url}/{self.layout.encoder}: describes encoder {record.identity.fingerprint}, not that of its own folder"
            )
        return record

    # The columns

    def read_columns(self) -> SettledColumns | None:
        """Return the types of metadata columns from earlier runs; None before the first run, or if an older version made it."""
        keys = sorted(stored.key for stored in self.store.list(self.layout.all_columns))
        documents = [document for key in keys if (document := self.read(key, SettledColumns))]
        return reduce(add, documents) if documents else None

    def settle_columns(self, columns: SettledColumns) -> None:
        """Commit the types of metadata columns.

        Raises:
            Permanent: another run has just committed other types for the same columns.
        """
        key = self.layout.columns([*columns.types, *(f"{name}=" for name in columns.names)])
        if commit_document(self.store, key, columns, damages=self.damages) != columns:
            raise Permanent(f"another run has just committed other types for the metadata of '{self.layout.corpus}': run again")

    # Shards

    def survey(self) -> Survey:
        """Return the sealed shards, and which of them were amended, from one listing."""
        return survey_listing(self.store.list(self.layout.shards), self.layout.shards)

    def sealed_ids(self) -> DigestSet:
        """Return the sealed shards, from one listing."""
        return self.survey().sealed

    def seal_ages(self, *, but: Container[str]) -> Iterator[tuple[float, str]]:
        """Stream the time of each seal, except those of shards in `but`, in seconds since 1970 by the store's clock, and the shard's id."""
        folder = self.layout.shards
        for stored in self.store.list(folder):
            shard, _, name = stored.key.removeprefix(folder).partition("/")
            if name == "seal.json" and shard not in but:
                yield stored.modified, shard

    def seal(self, seal: Seal) -> Seal:
        """Commit a shard. Returns the stored seal, which is another run's if that was first.

        Raises:
            Permanent: the seal violates the law "Accounted rows"; nothing was written.
        """
        check_accounts(seal)
        key = self.layout.seal(seal.shard)
        return commit_document(self.store, key, seal, damages=self.damages, check=lambda found: self._check(found, seal.shard))

    def read_seal(self, shard: str) -> Seal | None:
        """Return the shard's seal as committed."""
        return self.read(self.layout.seal(shard), Seal, lambda seal: self._check(seal, shard))

    def _check(self, seal: Seal, shard: str) -> None:
        self._check_inside(seal, shard)
        check_accounts(seal)

    def _check_inside(self, document: Seal | Amendment, shard: str) -> None:
        """Check that a document in a shard's folder references only that folder.

        Raises:
            Permanent: it belongs to another shard, or names a part elsewhere.
        """
        folder = self.layout.shard(shard)
        strays = [
            part.key for part in document.parts if not (part.key.startswith(folder) and _ATTEMPT.fullmatch(part.key.removeprefix(folder)))
        ]
        if document.shard != shard or strays:
            content = f"a part outside of it: {strays[0][:200]!r}" if strays else f"shard {document.shard[:200]!r}"
            raise Permanent(f"it is in {folder} and names {content}")

    def effective_seal(self, shard: str, *, look_further: bool = True) -> Seal | None:
        """Return the shard's seal with all amendments of retries. `look_further`: False if a survey shows no amendment."""
        seal = self.read_seal(shard)
        for effective, _ in self._amended(seal) if seal and look_further else ():
            seal = effective
        return seal

    def amendments(self, shard: str) -> list[Amendment]:
        """Return the amendments of a sealed shard, in order."""
        seal = self.read_seal(shard)
        return [amendment for _, amendment in self._amended(seal)] if seal else []

    def _amended(self, seal: Seal) -> Iterator[tuple[Seal, Amendment]]:
        """Yield each amendment with the effective seal after it. An amendment that does not fit is damaged, and so are later ones."""
        for number in count(1):
            before, made = seal, list[Seal]()

            def fit(found: Amendment, before: Seal = before, number: int = number, made: list[Seal] = made) -> None:
                self._check_inside(found, before.shard)
                made.append(amended_once(before, found, number))

            amendment = self.read(self.layout.amendment(seal.shard, number), Amendment, fit)
            if amendment is None:
                return
            seal = made[-1]
            yield seal, amendment

    def amend(self, amendment: Amendment) -> Amendment:
        """Commit the outcome of a retry. Returns the stored amendment of this number: another one if a racing retry was first.

        Raises:
            Permanent: it does not fit the shard's seal; nothing was written.
        """
        seal, earlier = self.read_seal(amendment.shard), self.amendments(amendment.shard)
        if seal is None:
            raise Permanent(f"shard {amendment.shard} is not sealed, so it cannot be amended")
        if amendment.number <= len(earlier):
            return earlier[amendment.number - 1]
        amended(seal, [*earlier, amendment])
        return commit_document(self.store, self.layout.amendment(amendment.shard, amendment.number), amendment, damages=self.damages)

    # Parts

    def parts_of(self, shard: str) -> Iterator[StoredObject]:
        """List every part of the shard, of any attempt, named by a seal or not."""
        return (stored for stored in self.store.list(self.layout.shard(shard)) if part_rows(stored.key))

    def adoptable(self, shard: str) -> list[Part]:
        """Return the finished parts of earlier attempts at an unsealed shard: sorted, without overlap, each read and checked.

        Excludes parts that a sweep may be removing: seals must not reference those.
        """
        parts: dict[tuple[int, int], Part] = {}
        keys = sorted(stored.key for stored in self.parts_of(shard))
        condemned_keys = condemned(self.store, self.layout) if keys else frozenset[str]()
        for key in keys:
            # A retry's part has only some rows of its range.
            eligible = key not in condemned_keys and not (writer_of(key) or "").startswith(RETRY)
            part = self._finished(shard, key) if eligible else None
            if part:
                parts.setdefault((part.first, part.stop), part)
        return [parts[span] for span in without_overlap(parts)]

    def _finished(self, shard: str, key: str) -> Part | None:
        """Return the part under a key if it is complete and its metadata matches its key."""
        data = self.store.read(key)
        if data is None:
            return None
        try:
            table, meta = read_part(data, key)
        except Permanent:
            return None
        part = part_of(key, data, table, meta)
        fits = part.rows + len(part.quarantined) <= part.stop - part.first
        return part if fits and meta.shard == shard and (part.first, part.stop) == part_rows(key) else None

    def refuse_condemned(self, seal: Seal) -> None:
        """Check a seal against sweeps. Call it before reading parts for a load: from then on no sweep removes any of them.

        Raises:
            Damaged: a sweep may be removing a part that the seal names; the seal must be withdrawn.
        """
        condemned_keys = condemned(self.store, self.layout)
        lost = next((part.key for part in seal.parts if part.key in condemned_keys), None)
        if lost:
            raise Damaged(f"{self.store.url}/{lost}: was being removed by `kitestring gc` when a seal named it")

    def verified_part(self, part: Part) -> pa.Table:
        """Read a sealed part and verify its checksum.

        Raises:
            Damaged: it is missing, or does not match its seal; names the key.
        """
        if not part.key.startswith(self.layout.shards):
            raise Permanent(f"{part.key}: a seal names a part outside of its own checkpoint")
        where, data = f"{self.store.url}/{part.key}", self.store.read(part.key)
        if data is None:
            raise Damaged(f"{where}: a sealed part is missing", part.key)
        if sha256_of_part(data) != part.sha256:
            raise Damaged(f"{where}: not the bytes that were sealed ({len(data)} of {part.bytes}, another checksum)", part.key)
        return read_part(data, where)[0]

    def sealed_part(self, part: Part) -> pa.Table:
        """Read a part as its seal names it, before duplicates are removed.

        Raises:
            Damaged: also if its number of rows differs from the seal.
        """
        table = self.verified_part(part)
        if table.num_rows != part.rows:
            raise Damaged(f"{self.store.url}/{part.key}: {table.num_rows} rows, but its seal says {part.rows}", part.key)
        return table

    def withdraw(self, seal: Seal, target: str) -> bool:
        """Withdraw the documents that name a damaged or condemned part of a shard, and distrust its load; intact parts stay.

        Deletes the seal or, if only a retry's part is damaged, its amendment and later ones. Amendments of a withdrawn seal
        stay: they apply again if the next seal quarantines the same rows. The seal is deleted last, so that an
        interrupted withdrawal is detected and repeated.

        Returns False, without changes, if the parts are intact after all or another run has sealed the shard again.
        """
        condemned_keys = condemned(self.store, self.layout)
        damaged = [part for part in seal.parts if part.key in condemned_keys or self._is_damaged(part)]
        effective = self.effective_seal(seal.shard)
        if not damaged or effective is None or effective.digest != seal.digest:
            return False
        self.distrust_loads(target, [seal.shard], "doubted")
        retried = [part.amendment for part in damaged if part.amendment]
        if retried:
            for amendment in reversed(self.amendments(seal.shard)[min(retried) - 1 :]):
                self.store.delete(self.layout.amendment(seal.shard, amendment.number))
        for part in damaged:
            self.store.delete(part.key)
        if any(not part.amendment for part in damaged):
            self.store.delete(self.layout.seal(seal.shard))
        return True

    def _is_damaged(self, part: Part) -> bool:
        try:
            self.sealed_part(part)
        except Damaged:
            return True
        return False

    # Compared with the ledger

    def read_load(self, target: str, shard: str, *, intended: bool = True) -> Loaded | None:
        """See `Ledger`. A run restores a damaged entry from the shard's seal, because its rows must stay accounted for."""
        entry = super().read_load(target, shard, intended=intended)
        if entry or self.damages is None or not self.damages.mends:
            return entry
        if {self.layout.loaded(target, shard), self.layout.intent(target, shard)}.isdisjoint(self.damages.keys):
            return None
        return self.enter_again(target, shard)

    def enter_again(self, target: str, shard: str) -> Loaded | None:
        """Restore a shard's lost ledger entry from its seal; None if it is not sealed."""
        seal = self.effective_seal(shard)
        if seal is None:
            return None
        values = {"group": seal.group, "rows": seal.rows, "seal": seal.digest, "run": seal.run, "loaded_at": seal.sealed_at}
        entry = Loaded(shard=shard, state="doubted", seconds=0.0, **values)
        self.intend_load(target, entry)
        return entry

    def up_to_date(self, target: str) -> Container[str]:
        """Return the shards loaded in their current sealed state, from two listings and the entries of amended shards."""
        survey, loaded = self.survey(), self.loaded_ids(target)
        stale = ahead(lambda shard: self._stale(target, shard), (shard for shard in survey.amended if shard in loaded))
        return UpToDate(sealed=survey.sealed, loaded=loaded, stale=frozenset(shard for shard in stale if shard))

    def _stale(self, target: str, shard: str) -> str | None:
        """Return the shard if the collection does not have its current state, else None."""
        entry, seal = self.read_load(target, shard), self.effective_seal(shard)
        return None if entry and seal and entry.seal == seal.digest else shard

    # Reports

    def write_report(self, run: str, name: str, data: bytes) -> str:
        """Store a file of a run's report. Returns its URL."""
        self.store.write(self.layout.run(run, name), data)
        return self.url_of_report(run, name)

    def url_of_report(self, run: str, name: str) -> str:
        """Return the URL of a file of a run's report, whether or not it exists yet."""
        return f"{self.store.url}/{self.layout.run(run, name)}"

    def latest_report(self) -> str | None:
        """Return the URL of the newest run's page, or None; run ids sort by time."""
        pages = (stored.key for stored in self.store.list(f"{self.layout.root}/runs/") if stored.key.endswith("/report.html"))
        newest = max(pages, default=None)
        return f"{self.store.url}/{newest}" if newest else None


def read_pin(store: Store, corpus: str, declared: str, damages: Damages | None = None) -> EncoderRecord | None:
    """Return how the corpus' first run resolved an encoder as declared in a job, or None."""
    return read_document(store, encoder_pin(corpus, declared), EncoderRecord, damages=damages)


def put_pin(store: Store, corpus: str, declared: str, record: EncoderRecord, damages: Damages | None = None) -> EncoderRecord:
    """Commit how a declared encoder is resolved for the corpus. Returns the stored record, another run's if that was first."""
    return commit_document(store, encoder_pin(corpus, declared), record, damages=damages)


def pin_encoder(checkpoint: Checkpoint, declared: str, record: EncoderRecord) -> None:
    """Commit the encoder of a corpus, before its first seal.

    Raises:
        Permanent: another run of this corpus has resolved `precision: auto` differently, or was served by another model.
    """
    corpus = checkpoint.layout.corpus
    pinned = put_pin(checkpoint.store, corpus, declared, record, checkpoint.damages)
    if pinned.identity != record.identity:
        raise Permanent(f"another run has just chosen precision {pinned.identity.precision} for corpus '{corpus}': run again")
    if other := other_server(record.facts.server, pinned.facts.server):
        raise Permanent(f"another run has just started corpus '{corpus}' with another model of the encoder's server: {other}")
    checkpoint.put_encoder(record)
