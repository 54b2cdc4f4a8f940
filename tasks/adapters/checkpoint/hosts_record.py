"""What each host of a run has done so far, kept in the checkpoint while the run goes: `status` shows it, also of a run that was killed."""

from __future__ import annotations

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import read_document, utc_now, write_document
from tasks.domain.errors import Permanent
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.report.hosts import HostsOfRun

HOSTS_FILE = "hosts.json"
REWRITE_FIRST, REWRITE_SECONDS = 5.0, 30.0  # between two writes


class HostsRecord:
    """A listener of a run's journal. Where the flow's machine encodes, it writes nothing."""

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
    """The hosts of the newest run that had any; run ids sort by time. None: none had, or what it wrote cannot be read."""
    folder = f"{checkpoint.layout.root}/runs/"
    keys = (found.key for found in checkpoint.store.list(folder) if found.key.endswith(f"/{HOSTS_FILE}"))
    newest = max(keys, default=None)
    try:
        return read_document(checkpoint.store, newest, HostsOfRun) if newest else None
    except Permanent:  # for display alone
        return None
