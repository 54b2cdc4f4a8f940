"""A host: one machine's work for a run, from a source's rows to committed seals.

It is constructed from plain values and opens the source, the checkpoint and the encoders itself. A cluster engine creates one on each
machine and hands it groups of shards; the local engine is one host in the flow's own process.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa

from tasks.adapters.checkpoint.checkpoint import Checkpoint, pin_encoder
from tasks.adapters.engines.encoders_by_kind import open_encoders
from tasks.adapters.engines.group_encoder import GroupEncoder
from tasks.adapters.engines.loading.group_loader import GroupLoader
from tasks.adapters.engines.loading.own_collections import OwnCollections
from tasks.adapters.engines.row_retry import RowRetry
from tasks.adapters.engines.row_reuse import RowReuse
from tasks.adapters.engines.sample_rate import measure_rate
from tasks.adapters.engines.workplace import open_workplace
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoder_identity import EncoderFacts, EncoderRecord
from tasks.domain.encoding.encoding_events import Tell
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import EncodingSpec, LoadGroup, ShardGroup
from tasks.domain.errors import Transient
from tasks.domain.estimate.rates import Observation
from tasks.domain.ports import Store
from tasks.domain.target.rate_limit import LoadCounts


class TakenBack(Transient):
    """The caller has recalled the group."""


class Host:
    """An `Engine` of one machine. Its methods take and return plain values only.

    Args:
        spec: the run.
        scratch: a private folder on this machine, removed by the caller after `close`.
        tell: receives every event, in the thread where it occurs.
        store: the checkpoint, if this process has it open already.
        model: the model's files on this machine, if located already.

    Raises:
        BadInput: something that the job names cannot be opened on this machine.
    """

    def __init__(
        self, spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None
    ) -> None:
        self._place = open_workplace(spec, scratch=scratch, tell=tell, store=store, model=model)
        self._encoders = open_encoders(self._place)
        self._reuse = RowReuse(self._place)
        self._collections = OwnCollections(self._place.job)
        self._pinned = set[str]()  # fingerprints recorded in the checkpoint
        self._giving_back = self._closed = False
        self._recalled = set[tuple[str, str]]()  # groups by attempt and first shard

    @property
    def width(self) -> int:
        """One group for each rank, and one more to read ahead."""
        return self._encoders.pace.ranks + 1

    def start(self) -> None:
        """See `Engine`."""
        self._encoders.start()

    def facts(self) -> EncoderFacts:
        """See `Engine`."""
        return self._encoders.facts()

    def expect(self, rows: int | None) -> None:
        """See `Engine`; counts this host's rows only."""
        self._encoders.pace.expect(rows)

    def encode(self, group: ShardGroup) -> None:
        """See `Engine`."""
        checkpoint = self._checkpoint(group.record)
        self._check_stays()
        if group.record.facts.server:
            # A served model's fingerprint has only its name: parts of an interrupted run are adopted only for a stored record.
            self._pin(checkpoint, group.record)
        if group.rows == "quarantined":
            failures = RowRetry(self._place, self._encoders, checkpoint, group).run()
        else:
            pin = partial(self._pin, checkpoint, group.record)
            encoder = GroupEncoder(
                self._place, self._encoders, checkpoint, group, reuse=self._reuse, pin=pin, go_on=partial(self._check_goes_on, group)
            )
            failures = encoder.run()
        if failures:
            raise failures[0]

    def load(self, group: LoadGroup) -> None:
        """See `Engine`."""
        self._check_stays()
        collection = self._collections.of(group)
        failures = GroupLoader(self._place, self._checkpoint(group.record), collection, group, go_on=self._check_stays).run()
        if failures:
            raise failures[0]

    @property
    def loading(self) -> LoadCounts:
        """Counts of the rows that it has loaded."""
        return self._collections.counts

    def share_rate(self, rate: float | None, *, heard: int) -> None:
        """Set how fast it may load, in rows per second; see `tasks.domain.target.rate_limit.Throttle.share`."""
        self._collections.share(rate, heard=heard)

    def share_requests(self, most: int) -> None:
        """Set how many requests it may have in flight to the model server: its share of the limit for all hosts."""
        self._place.requests.most = most

    def measure(self, rows: pa.Table) -> Observation:
        """See `Engine`."""
        return measure_rate(self._encoders, rows, scratch=self._place.scratch)

    def progress(self) -> EncodingProgress:
        """See `Engine`."""
        return self._encoders.progress()

    def release(self, *, wait: bool = False) -> None:
        """See `Engine`."""
        self._encoders.release(wait=wait)

    def close(self) -> None:
        """See `Engine`."""
        self._closed = True
        self._encoders.close()
        self._reuse.close()
        self._collections.close()

    def give_back(self) -> None:
        """Begin no further piece: those in progress are finished, and every running group fails with Transient."""
        self._giving_back = True

    def recall(self, attempt: str, shard: str) -> None:
        """Begin no further piece of the group (by attempt and first shard): it fails with `TakenBack`, unless all its pieces are begun."""
        self._recalled.add((attempt, shard))

    def _check_goes_on(self, group: ShardGroup) -> None:
        self._check_stays()
        if (group.attempt, group.shards[0].id) in self._recalled:
            raise TakenBack("the group was recalled: an idle host encodes it instead")

    def _check_stays(self) -> None:
        if self._closed:
            raise Transient("the host is closed")
        if self._giving_back:
            raise Transient("the machine is preempted: the host begins no further work")

    def _checkpoint(self, record: EncoderRecord) -> Checkpoint:
        place = self._place
        return Checkpoint(place.store, place.job.corpus, record.identity.fingerprint, place.damages)

    def _pin(self, checkpoint: Checkpoint, record: EncoderRecord) -> None:
        if record.identity.fingerprint not in self._pinned:
            pin_encoder(checkpoint, self._place.spec.declared, record)
            self._pinned.add(record.identity.fingerprint)
