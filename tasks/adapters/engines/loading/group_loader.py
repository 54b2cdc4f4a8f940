"""Loads the sealed shards of one group into the collection, by the ledger's rules."""

from __future__ import annotations

from collections.abc import Callable

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.engines.group_encoder import for_good
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.targets.shard_loader import load_sealed_shard
from tasks.domain.encoding.encoding_events import ShardLoaded, failure_of
from tasks.domain.encoding.encoding_spec import LoadGroup
from tasks.domain.errors import Permanent
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.shards.shard import Shard


class GroupLoader:
    """Loads the sealed shards of a group.

    Args:
        place: the host's workplace.
        checkpoint: the checkpoint of the group's encoder.
        collection: the group's collection.
        group: the shards.
        go_on: called before each part; raises Transient if no further part may be begun.
    """

    def __init__(
        self, place: Workplace, checkpoint: Checkpoint, collection: Collection, group: LoadGroup, *, go_on: Callable[[], None]
    ) -> None:
        self._place, self._checkpoint, self._collection, self._group, self._go_on = place, checkpoint, collection, group, go_on

    def run(self) -> list[Permanent]:
        """Load the shards; return the errors of those that cannot be loaded, each reported as an event.

        Raises:
            Transient, OutcomeUnknown: a temporary fault.
        """
        failures: list[Permanent] = []
        for shard in self._group.shards:
            try:
                self._load(shard)
            except Exception as error:  # noqa: BLE001 - `for_good` raises what is temporary
                failures.append(for_good(error))
                self._place.tell(failure_of(shard, failures[-1], at="load"))
        return failures

    def _load(self, shard: Shard) -> None:
        self._go_on()
        seal = self._checkpoint.effective_seal(shard.id)
        if seal is None:
            return
        before = self._checkpoint.read_load(self._group.ledger, shard.id)
        if before and self._is_done(before, seal):  # by a host that was lost before it reported the shard
            self._place.tell(ShardLoaded(entry=before, replaced=True))
            return
        entry = load_sealed_shard(
            self._checkpoint,
            self._collection,
            shard,
            seal,
            ledger=self._group.ledger,
            run=self._place.spec.run,
            scratch=self._place.scratch,
            go_on=self._go_on,
        )
        # An entry of this run is the intent of a lost host: whether the collection had the shard before is unknown.
        replaced = before is not None and (before.seal != seal.digest or before.run == self._place.spec.run)
        self._place.tell(ShardLoaded(entry=entry, replaced=replaced))

    def _is_done(self, entry: Loaded, seal: Seal) -> bool:
        return entry.state == "loaded" and entry.seal == seal.digest and entry.run == self._place.spec.run
