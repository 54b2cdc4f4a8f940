"""The engine that is there without asking: the machine of the flow, in the flow's own process."""

from __future__ import annotations

from tasks.adapters.engines.host import Host


class LocalEngine(Host):
    """One host, called in-process: its exceptions and its events reach the calling thread directly."""
