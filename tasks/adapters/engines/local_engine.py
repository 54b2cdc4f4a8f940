"""The default engine: the machine of the flow, in the flow's own process."""

from __future__ import annotations

from tasks.adapters.engines.host import Host


class LocalEngine(Host):
    """One host, called in-process: exceptions and events reach the caller directly."""
