"""What a distributed engine gives to a fleet: hosts that come and go, and calls of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol


class HostLink(Protocol):
    """A `RemoteHost` on some machine, or where one will be."""

    def call(self, method: str, *arguments: object) -> Future[str]:
        """Call a method without waiting. The future holds its result, or any exception where the host is lost: the call may have taken effect.

        A call that was made before there is a machine for the host waits for one. No call is ever made twice.
        """

    def end(self) -> None:
        """End its process and what that has started, whether it answers or not; at once. It may be called anew: a fresh one answers."""


class Cluster(Protocol):
    """The hosts of a distributed engine, for one run."""

    def hosts(self) -> Sequence[HostLink]:
        """Those that there are now, the same object for the same host; asked every second or two.

        Raises:
            Transient: the cluster does not answer for a moment.
        """

    def close(self) -> None:
        """End all of them, and leave the cluster."""
