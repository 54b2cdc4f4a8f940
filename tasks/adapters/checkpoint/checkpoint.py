"""The checkpoint of one corpus under one encoder, read and written as values.

Committed documents never change; replaceable ones are in `tasks.adapters.checkpoint.ledger`. Every method raises the store's errors, and
Newer where a document is of a newer version; one that is damaged goes to `damages`, or is raised as Unreadable.
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
    """A corpus' vectors under one encoder's fingerprint, and the ledger of where they are. Many threads may use one."""

    # The encoder

    def read_encoder(self) -> EncoderRecord | None:
        """The encoder behind the fingerprint; None before the first seal."""
        return self._own(self.read_encoder_as_told())

    def read_encoder_as_told(self) -> EncoderRecord | None:
        """The same, be it of another encoder."""
        return self.read(self.layout.encoder, EncoderRecord)

    def put_encoder(self, record: EncoderRecord) -> EncoderRecord:
        """Record the encoder behind the fingerprint, once; returns the stored record."""
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
        """What metadata columns were found to be by earlier runs; None before them, and where an older version made them."""
        keys = sorted(stored.key for stored in self.store.list(self.layout.all_columns))
        found = [document for key in keys if (document := self.read(key, SettledColumns))]
        return reduce(add, found) if found else None

    def settle_columns(self, columns: SettledColumns) -> None:
        """Write down what columns were found to be.

        Raises:
            Permanent: another run found the same ones to be something else in this moment.
        """
        key = self.layout.columns([*columns.types, *(f"{name}=" for name in columns.names)])
        if commit_document(self.store, key, columns, damages=self.damages) != columns:
            raise Permanent(f"another run has just found the metadata of '{self.layout.corpus}' to be of other types: run again")

    # Shards

    def survey(self) -> Survey:
        """Which shards are sealed, and which of those were amended since, from one listing."""
        return survey_listing(self.store.list(self.layout.shards), self.layout.shards)

    def sealed_ids(self) -> DigestSet:
        """The shards that are sealed, from one listing."""
        return self.survey().sealed

    def seal_ages(self, *, but: Container[str]) -> Iterator[tuple[float, str]]:
        """When each other shard was sealed, in seconds since 1970 by the store's clock, and its id; streams."""
        folder = self.layout.shards
        for found in self.store.list(folder):
            shard, _, name = found.key.removeprefix(folder).partition("/")
            if name == "seal.json" and shard not in but:
                yield found.modified, shard

    def seal(self, seal: Seal) -> Seal:
        """Commit a shard; the seal that stands, which is another run's where that was first.

        Raises:
            Permanent: the seal breaks the law "Accounted rows"; nothing was written.
        """
        check_accounts(seal)
        key = self.layout.seal(seal.shard)
        return commit_document(self.store, key, seal, damages=self.damages, check=lambda found: self._check(found, seal.shard))

    def read_seal(self, shard: str) -> Seal | None:
        """The shard's seal as it was committed."""
        return self.read(self.layout.seal(shard), Seal, lambda seal: self._check(seal, shard))

    def _check(self, seal: Seal, shard: str) -> None:
        self._check_inside(seal, shard)
        check_accounts(seal)

    def _check_inside(self, found: Seal | Amendment, shard: str) -> None:
        """A document in a shard's folder may reference that folder alone.

        Raises:
            Permanent: it is another shard's, or names a part that is elsewhere.
        """
        folder = self.layout.shard(shard)
        strays = [
            part.key for part in found.parts if not (part.key.startswith(folder) and _ATTEMPT.fullmatch(part.key.removeprefix(folder)))
        ]
        if found.shard != shard or strays:
            what = f"a part outside of it: {strays[0][:200]!r}" if strays else f"shard {found.shard[:200]!r}"
            raise Permanent(f"it is in {folder} and names {what}")

    def effective_seal(self, shard: str, *, look_further: bool = True) -> Seal | None:
        """The shard's seal with everything that retries have added to it. `look_further`: False where a survey shows no amendment."""
        seal = self.read_seal(shard)
        for effective, _ in self._amended(seal) if seal and look_further else ():
            seal = effective
        return seal

    def amendments(self, shard: str) -> list[Amendment]:
        """The amendments of a sealed shard, in order."""
        seal = self.read_seal(shard)
        return [amendment for _, amendment in self._amended(seal)] if seal else []

    def _amended(self, seal: Seal) -> Iterator[tuple[Seal, Amendment]]:
        """Each amendment with the effective seal after it. One that does not fit is damaged, and so is what follows it."""
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
        """Commit the outcome of a retry; what stands under its number: another one where a racing retry was first.

        Raises:
            Permanent: it does not fit the shard's seal; nothing was written.
        """
        seal, earlier = self.read_seal(amendment.shard), self.amendments(amendment.shard)
        if seal is None:
            raise Permanent(f"shard {amendment.shard} is not sealed, so nothing of it can be amended")
        if amendment.number <= len(earlier):
            return earlier[amendment.number - 1]
        amended(seal, [*earlier, amendment])
        return commit_document(self.store, self.layout.amendment(amendment.shard, amendment.number), amendment, damages=self.damages)

    # Parts

    def parts_of(self, shard: str) -> Iterator[StoredObject]:
        """Every part under the shard, of any attempt, named by a seal or not."""
        return (found for found in self.store.list(self.layout.shard(shard)) if part_rows(found.key))

    def adoptable(self, shard: str) -> list[Part]:
        """Finished parts that earlier attempts left of an unsealed shard: sorted, without overlap, each read and checked.

        None that a sweep is about to remove: no seal may reference those any more.
        """
        found: dict[tuple[int, int], Part] = {}
        keys = sorted(stored.key for stored in self.parts_of(shard))
        doomed = condemned(self.store, self.layout) if keys else frozenset[str]()
        for key in keys:
            # Parts of a retry hold single rows of their range.
            taken = key not in doomed and not (writer_of(key) or "").startswith(RETRY)
            part = self._finished(shard, key) if taken else None
            if part:
                found.setdefault((part.first, part.stop), part)
        return [found[span] for span in without_overlap(found)]

    def _finished(self, shard: str, key: str) -> Part | None:
        """The part under a key if it is whole and says of itself what its key says."""
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
        """To be called before the parts of a seal are read in order to load them: from then on no sweep removes any of them.

        Raises:
            Damaged: a sweep may be removing a part that the seal names; the seal has to be withdrawn.
        """
        doomed = condemned(self.store, self.layout)
        lost = next((part.key for part in seal.parts if part.key in doomed), None)
        if lost:
            raise Damaged(f"{self.store.url}/{lost}: was being removed by `kitestring gc` when a seal named it")

    def verified_part(self, part: Part) -> pa.Table:
        """A sealed part's rows, after its checksum was compared.

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
        """The same, where the part is as its seal names it, and not as the owners of its keys have it.

        Raises:
            Damaged: also where the seal has another number of rows.
        """
        table = self.verified_part(part)
        if table.num_rows != part.rows:
            raise Damaged(f"{self.store.url}/{part.key}: {table.num_rows} rows, where its seal says {part.rows}", part.key)
        return table

    def withdraw(self, seal: Seal, target: str) -> bool:
        """Take back what names a damaged or condemned part of a shard, and the ledger's word of it; the parts that are whole stay.

        That is the seal, or where only a retry's part is damaged, its amendment and what followed it. Amendments of a seal that is
        withdrawn stay: they count again if the seal that takes its place has set aside the same rows. The seal goes last, so that a
        withdrawal that was cut short is found and made again.

        Returns False, having changed nothing, where the parts are whole after all or another run has sealed the shard anew.
        """
        doomed = condemned(self.store, self.layout)
        damaged = [part for part in seal.parts if part.key in doomed or self._is_damaged(part)]
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
        """As in `Ledger`; one that is damaged is made again from the shard's seal by a run: its rows are still to be accounted for."""
        entry = super().read_load(target, shard, intended=intended)
        if entry or self.damages is None or not self.damages.mends:
            return entry
        if {self.layout.loaded(target, shard), self.layout.intent(target, shard)}.isdisjoint(self.damages.keys):
            return None
        return self.enter_again(target, shard)

    def enter_again(self, target: str, shard: str) -> Loaded | None:
        """Make the entry of a shard from its seal, where the ledger has lost it; None where it is not sealed."""
        seal = self.effective_seal(shard)
        if seal is None:
            return None
        told = {"group": seal.group, "rows": seal.rows, "seal": seal.digest, "run": seal.run, "loaded_at": seal.sealed_at}
        entry = Loaded(shard=shard, state="doubted", seconds=0.0, **told)
        self.intend_load(target, entry)
        return entry

    def up_to_date(self, target: str) -> Container[str]:
        """Shards that are sealed and loaded as they are sealed now; from two listings, and a look at what was amended."""
        survey, loaded = self.survey(), self.loaded_ids(target)
        stale = ahead(lambda shard: self._stale(target, shard), (shard for shard in survey.amended if shard in loaded))
        return UpToDate(sealed=survey.sealed, loaded=loaded, stale=frozenset(shard for shard in stale if shard))

    def _stale(self, target: str, shard: str) -> str | None:
        """The shard, if the collection does not have it as it is now."""
        entry, seal = self.read_load(target, shard), self.effective_seal(shard)
        return None if entry and seal and entry.seal == seal.digest else shard

    # Reports

    def write_report(self, run: str, name: str, data: bytes) -> str:
        """Keep a file of a run's report; where it can be found."""
        self.store.write(self.layout.run(run, name), data)
        return self.url_of_report(run, name)

    def url_of_report(self, run: str, name: str) -> str:
        """Where a file of a run's report is, or will be."""
        return f"{self.store.url}/{self.layout.run(run, name)}"

    def latest_report(self) -> str | None:
        """Where the page of the newest run is; run ids sort by time."""
        pages = (found.key for found in self.store.list(f"{self.layout.root}/runs/") if found.key.endswith("/report.html"))
        newest = max(pages, default=None)
        return f"{self.store.url}/{newest}" if newest else None


def read_pin(store: Store, corpus: str, declared: str, damages: Damages | None = None) -> EncoderRecord | None:
    """What an encoder, as a job declares it, was settled to be by the corpus' first run."""
    return read_document(store, encoder_pin(corpus, declared), EncoderRecord, damages=damages)


def put_pin(store: Store, corpus: str, declared: str, record: EncoderRecord, damages: Damages | None = None) -> EncoderRecord:
    """Settle what a declared encoder is, once for the corpus; the record that stands, another run's where that was first."""
    return commit_document(store, encoder_pin(corpus, declared), record, damages=damages)


def pin_encoder(checkpoint: Checkpoint, declared: str, record: EncoderRecord) -> None:
    """Write down what the vectors of a corpus are made with, before the first seal says that there are any.

    Raises:
        Permanent: another run of this corpus has settled `precision: auto` otherwise, or was served by another model.
    """
    corpus = checkpoint.layout.corpus
    settled = put_pin(checkpoint.store, corpus, declared, record, checkpoint.damages)
    if settled.identity != record.identity:
        raise Permanent(f"another run has just settled on precision {settled.identity.precision} for corpus '{corpus}': run again")
    if other := other_server(record.facts.server, settled.facts.server):
        raise Permanent(f"another run has just begun corpus '{corpus}' with another model of the encoder's server: {other}")
    checkpoint.put_encoder(record)
