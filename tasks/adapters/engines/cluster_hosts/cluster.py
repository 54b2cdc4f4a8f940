"""The interface between a fleet and a distributed engine: hosts that join and leave, and calls to them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol


class HostLink(Protocol):
    """A `RemoteHost` on some machine, running or yet to be started."""

    def call(self, method: str, *arguments: object) -> Future[str]:
        """Call a method without waiting. The future holds its result, or any exception if the host is lost: the call may have taken effect.

        A call made before the host has a machine waits for one. Calls are never retried.
        """

    def end(self) -> None:
        """Kill its process and the processes that it started, without waiting. A later `call` starts a new process."""


class Cluster(Protocol):
    """The hosts of a distributed engine, for one run."""

    def hosts(self) -> Sequence[HostLink]:
        """The current hosts, the same object for the same host; called every second or two.

        Raises:
            Transient: the cluster does not answer at the moment.
        """

    def close(self) -> None:
        """End all hosts and leave the cluster."""
