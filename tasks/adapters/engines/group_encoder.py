"""Encodes the rows of a group's shards and seals each shard.

Shards are read ahead while earlier ones are still being encoded; each is sealed as soon as all its parts are stored. A shard that is
refused or fails is reported and skipped, and the others continue ("Isolated failures").
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.engines.documents.shard_rows import shard_rows
from tasks.adapters.engines.documents.whole_documents import WholeDocuments
from tasks.adapters.engines.row_reuse import RowReuse, keep_vectors, noting_content
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.rows.pieces import PieceRows, Tally, cut_pieces, digests_to_cache
from tasks.domain.encoding.encoding_events import ShardReused, ShardSealed, failure_of
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.encoding.protocol import Piece
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.job.credentials import without_credentials
from tasks.domain.ports import Encoders
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.shards.shard import Shard

LONGEST = 500  # characters of an unexpected error
log = logging.getLogger("kitestring.encode")


@dataclass(slots=True, kw_only=True)
class OpenShard:
    """A shard that is being encoded."""

    shard: Shard
    begun: float
    adopted: list[Part]
    digests: DigestFile
    tally: Tally = field(default_factory=Tally)
    parts: list[Future[Part]] = field(default_factory=list)
    cached: int = 0  # rows whose vectors came from the cache


class GroupEncoder:
    """Seals the unsealed shards of one group.

    Args:
        place: the host's workplace.
        encoders: encode the pieces.
        checkpoint: the checkpoint of the group's encoder.
        group: the shards.
        reuse: the vectors of earlier shards.
        pin: stores the encoder's record; called before a seal is committed.
        go_on: called before each piece; raises Transient if no further piece may be begun.
    """

    def __init__(
        self,
        place: Workplace,
        encoders: Encoders,
        checkpoint: Checkpoint,
        group: ShardGroup,
        *,
        reuse: RowReuse,
        pin: Callable[[], None],
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._place, self._encoders, self._checkpoint, self._group, self._pin = place, encoders, checkpoint, group, pin
        self._reuse, self._index, self._go_on = reuse, reuse.index_for(group, checkpoint), go_on
        self._cache = reuse.cache_for(group)
        self._failures: list[Permanent] = []

    def run(self) -> list[Permanent]:
        """Encode and seal; return the errors of the shards that failed permanently, each reported as an event.

        Raises:
            Transient, OutcomeUnknown: a temporary fault; by then no work of this attempt is running.
        """
        opened: deque[OpenShard] = deque()
        try:
            for shard in self._group.shards:
                self._open(shard, opened)
                while opened and all(part.done() for part in opened[0].parts):
                    self._close(opened.popleft())
            while opened:
                self._close(opened.popleft())
        finally:  # a retry must not overlap with pieces of this attempt
            for waiting in opened:
                wait_for(waiting.parts)
                waiting.digests.drop()
        return self._failures

    def _open(self, shard: Shard, opened: deque[OpenShard]) -> None:
        try:
            sealed = self._checkpoint.read_seal(shard.id)
            if sealed is None:
                opened.append(self._read(shard))
                return
        except Exception as error:  # noqa: BLE001 - `for_good` raises what is temporary
            self._fail(shard, for_good(error))
            return
        self._encoders.pace.given(sealed.source_rows)
        self._place.tell(ShardReused(seal=sealed))

    def _read(self, shard: Shard) -> OpenShard:
        """Submit every row that is in no finished part and has no vector in an earlier shard."""
        digests = DigestFile(self._place.scratch / f"{shard.id}-digests.parquet")
        opened = OpenShard(shard=shard, begun=time.monotonic(), adopted=self._checkpoint.adoptable(shard.id), digests=digests)
        covered = [(part.first, part.stop) for part in opened.adopted]
        self._encoders.pace.given(sum(stop - first for first, stop in covered))
        prepared = shard_rows(self._place, shard, self._group.record)
        rows = noting_content(prepared, shard, digests, self._index, self._cache)
        try:
            for piece in cut_pieces(rows, opened.tally, covered=covered, piece_rows=self._piece_rows):
                opened.parts.append(self._submit(shard, piece))
                opened.cached += piece.cached
        except Exception:
            digests.drop()
            wait_for(opened.parts)
            raise
        return opened

    def _piece_rows(self) -> int:
        """Rows of the next piece: half of the unsaved rows a rank may hold; the other half is the previous part, being stored."""
        unsaved = self._place.job.compute.unsaved_rows
        return self._encoders.pace.piece_rows if unsaved == "auto" else unsaved // 2

    def _submit(self, shard: Shard, rows: PieceRows) -> Future[Part]:
        self._go_on()
        path = self._place.scratch / f"{shard.id}-{rows.first}.arrow"
        taken = path.with_suffix(".taken") if rows.taken else None
        key = self._checkpoint.layout.part(shard.id, self._group.attempt, rows.first, rows.stop)
        self._encoders.pace.given(rows.stop - rows.first)
        if taken and not rows.to_encode:
            return _done(self._reuse.store_taken(rows, shard.id, key, taken))
        rows.write(path)
        if taken:
            rows.write_taken(taken)
        piece = Piece(shard=shard.id, name=shard.name, first=rows.first, stop=rows.stop, rows=str(path), taken=str(taken or ""), key=key)
        part = self._encoders.submit(piece)
        part.add_done_callback(partial(_unlink, [path, taken] if taken else [path]))
        if self._cache:
            part.add_done_callback(partial(keep_vectors, self._cache, self._checkpoint, digests_to_cache(rows)))
        return part

    def _close(self, opened: OpenShard) -> None:
        try:
            self._seal(opened)
        except Exception as error:  # noqa: BLE001 - `for_good` raises what is temporary
            self._fail(opened.shard, for_good(error))

    def _seal(self, opened: OpenShard) -> None:
        """Commit a shard after checking its row counts ("Accounted rows").

        Raises:
            Permanent: the row counts do not add up, or a piece failed permanently.
        """
        wait_for(opened.parts)
        try:
            made = [part.result() for part in opened.parts]
        except Exception:
            opened.digests.drop()
            raise
        digests = opened.digests.keep(self._checkpoint, opened.shard.id, self._group.attempt)
        parts = sorted([*opened.adopted, *made], key=lambda part: part.first)
        found = opened.tally.found.all()
        documents = WholeDocuments(place=self._place, checkpoint=self._checkpoint, shard=opened.shard.id, attempt=self._group.attempt)
        settled = documents.settle(parts, made, opened.tally)
        quarantined = [*opened.tally.quarantined, *settled.quarantined]
        embedded = sum(part.source_rows for part in settled.parts)
        cached = min(opened.cached, embedded - settled.encoded)  # `opened.cached` counts chunks, `embedded` documents
        seal = Seal(
            format_version=4 if cached else 3 if found or digests or settled.chunks else 2,
            shard=opened.shard.id,
            name=opened.shard.name,
            group=opened.shard.group,
            run=self._place.spec.run,
            attempt=self._group.attempt,
            dim=self._group.record.facts.dim,
            source_rows=opened.tally.seen,
            embedded=embedded,
            duplicates=opened.tally.duplicates,
            quarantined=tuple(sorted(quarantined, key=lambda row: row.row)),
            parts=tuple(settled.parts),
            seconds=round(time.monotonic() - opened.begun, 3),
            sealed_at=utc_now(),
            cached=cached,
            found=found,
            digests=digests,
            chunks=settled.chunks,
        )
        check_accounts(seal)
        self._pin()
        winner = self._checkpoint.seal(seal)
        encoded, from_cache = (settled.encoded, cached) if winner == seal else (0, 0)
        self._place.tell(ShardSealed(seal=winner, encoded=encoded, cached=from_cache, adopted=len(opened.adopted)))

    def _fail(self, shard: Shard, error: Permanent) -> None:
        """Report a failed shard. Deletes this run's parts if its content is refused, since every run would refuse it.

        After any other failure parts stay: a concurrent run may have adopted them, and `gc` removes unused ones.
        """
        if isinstance(error, BadInput):
            for stored in self._checkpoint.parts_of(shard.id):
                if f"/{self._place.spec.run}" in stored.key:
                    self._checkpoint.store.delete(stored.key)
        self._failures.append(error)
        self._place.tell(failure_of(shard, error))


def for_good(error: Exception) -> Permanent:
    """Convert a shard's error to the permanent one to report; an unexpected error fails this shard only.

    Raises:
        Transient, OutcomeUnknown: the error may be temporary, so the group should be retried.
    """
    if isinstance(error, Permanent):
        return error
    if isinstance(error, KitestringError):
        raise error
    text = without_credentials(f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST]}")
    if isinstance(error, MemoryError):
        raise Transient(f"there is not enough memory: {text}") from error
    log.error("a shard failed with an unexpected error", exc_info=error)
    return Permanent(f"{text}; please report this")


def _unlink(paths: list[Path], _part: Future[Part]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _done(part: Part) -> Future[Part]:
    future = Future[Part]()
    future.set_result(part)
    return future


def wait_for(parts: list[Future[Part]]) -> None:
    """Wait until all are done, whether they succeeded or failed."""
    for part in parts:
        part.exception()
