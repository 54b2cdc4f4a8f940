"""The collections that a host loads into, over a connection of its own."""

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
    """Opened at the first need. The token comes from the environment of this process: a host has no Prefect to ask for blocks."""

    def __init__(self, job: Job) -> None:
        self._job, self._lock = job, threading.Lock()
        self._target: Target | None = None
        self._known: dict[str, Collection] = {}
        self._share: tuple[float | None, int] = (None, 0)

    def of(self, group: LoadGroup) -> Collection:
        """The collection of a group.

        Raises:
            BadInput: the target cannot be reached from here, or has another collection, or none, under its name.
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
        found = collection.identity()
        if found != group.identity:
            what = "there is none" if found is None else "there is another one of that name"
            raise BadInput(
                f"target.uri: '{settings.address}' is not the flow's server when it is asked from this host: collection"
                f" '{group.collection.name}' was made by the flow, and here {what}: give an address that is the same from every machine"
            )
        return collection

    @property
    def counts(self) -> LoadCounts:
        """Of the collection that was opened last."""
        known = [*self._known.values()]
        return known[-1].throttle.counts if known else LoadCounts()

    def share(self, rate: float | None, *, heard: int) -> None:
        """The rate that the flow has settled for this host, in rows a second; see `Throttle.share`."""
        self._share = (rate, heard)
        for collection in [*self._known.values()]:
            collection.throttle.share(rate, heard=heard)

    def close(self) -> None:
        """Let go of the connection; what is under way fails."""
        with self._lock:
            target, self._target = self._target, None
            self._known.clear()
        if target is not None:
            with suppress(KitestringError):
                target.close()
