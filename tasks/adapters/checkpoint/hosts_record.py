"""Records each host's progress in the checkpoint during a run: `status` shows it, even for a killed run."""

from __future__ import annotations

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import read_document, utc_now, write_document
from tasks.domain.errors import Permanent
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.report.hosts import HostsOfRun

HOSTS_FILE = "hosts.json"
REWRITE_FIRST, REWRITE_SECONDS = 5.0, 30.0  # minimum and maximum interval between writes


class HostsRecord:
    """A listener of a run's journal. Writes nothing if only the flow's machine encodes."""

    def __init__(self, run: str, checkpoint: Checkpoint) -> None:
        self._run, self._checkpoint = run, checkpoint
        self._next = 0.0

    def __call__(self, now: Snapshot) -> None:
        if not now.encoding.hosts or (now.seconds < self._next and not now.ended):
            return
        self._next = now.seconds + min(REWRITE_SECONDS, max(REWRITE_FIRST, now.seconds / 4))
        record = HostsOfRun(run=self._run, at=utc_now(), ended=now.ended, hosts=now.encoding.hosts)
        write_document(self._checkpoint.store, self._checkpoint.layout.run(self._run, HOSTS_FILE), record)


def newest_hosts(checkpoint: Checkpoint) -> HostsOfRun | None:
    """Return the hosts of the newest run with hosts (run ids sort by time); None without one, or if its record cannot be read."""
    folder = f"{checkpoint.layout.root}/runs/"
    keys = (stored.key for stored in checkpoint.store.list(folder) if stored.key.endswith(f"/{HOSTS_FILE}"))
    newest = max(keys, default=None)
    try:
        return read_document(checkpoint.store, newest, HostsOfRun) if newest else None
    except Permanent:  # only displayed
        return None
