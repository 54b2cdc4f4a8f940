"""The collections that a host loads into, over its own connection."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from tasks.adapters.targets.registry import target_for
from tasks.domain.encoding.encoding_spec import LoadGroup
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection, Target
from tasks.domain.target.rate_limit import LoadCounts


class OwnCollections:
    """Opens collections on first use. The token comes from this process's environment: a host has no access to Prefect blocks."""

    def __init__(self, job: Job) -> None:
        self._job, self._lock = job, threading.Lock()
        self._target: Target | None = None
        self._known: dict[str, Collection] = {}
        self._share: tuple[float | None, int] = (None, 0)

    def of(self, group: LoadGroup) -> Collection:
        """The collection of a group.

        Raises:
            BadInput: the target cannot be reached from this host, or the collection of that name is missing or another one.
        """
        with self._lock:
            if group.identity not in self._known:
                self._known[group.identity] = self._open(group)
                self._known[group.identity].throttle.share(self._share[0], heard=self._share[1])
            return self._known[group.identity]

    def _open(self, group: LoadGroup) -> Collection:
        settings = self._job.target
        if self._target is None:
            self._target = target_for(settings, token=os.environ.get(settings.token_variable))
        collection = self._target.collection(group.collection.name)
        identity = collection.identity()
        if identity != group.identity:
            difference = "does not exist" if identity is None else "is another collection of that name"
            raise BadInput(
                f"target.uri: '{settings.address}' leads from this host to another server than from the flow: collection"
                f" '{group.collection.name}', which the flow created, {difference} here: set an address that is valid on every machine"
            )
        return collection

    @property
    def counts(self) -> LoadCounts:
        """Counts of the most recently opened collection."""
        known = [*self._known.values()]
        return known[-1].throttle.counts if known else LoadCounts()

    def share(self, rate: float | None, *, heard: int) -> None:
        """Apply the rate that the flow has set for this host, in rows per second; see `Throttle.share`."""
        self._share = (rate, heard)
        for collection in [*self._known.values()]:
            collection.throttle.share(rate, heard=heard)

    def close(self) -> None:
        """Close the connection; calls in progress fail."""
        with self._lock:
            target, self._target = self._target, None
            self._known.clear()
        if target is not None:
            with suppress(KitestringError):
                target.close()
