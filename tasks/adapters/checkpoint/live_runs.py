"""Progress of a corpus' runs, published in the checkpoint: `kitestring status --watch` follows it from any machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from tasks.adapters.checkpoint.json_documents import read_document, write_document
from tasks.domain.errors import Newer, Unreadable
from tasks.domain.ports import Store
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.shards.layout import live_run, live_runs

MOST_READ = 8  # newest runs to read


class LiveRuns:
    """The published runs of one corpus. Every method raises the store's errors."""

    def __init__(self, store: Store, corpus: str) -> None:
        self._store, self._corpus = store, corpus

    def publish(self, run: LiveRun) -> None:
        """Publish a run's progress, replacing the previous one."""
        write_document(self._store, live_run(self._corpus, run.run), run)

    def forget(self, run: str) -> None:
        """Remove a run's progress."""
        self._store.delete(live_run(self._corpus, run))

    def newest(self) -> Iterator[LiveRun]:
        """Yield runs, newest first, including those that ended since the last one began. Skips unreadable ones."""
        folder = live_runs(self._corpus)
        names = sorted((stored.key.removeprefix(folder).removesuffix(".json") for stored in self._store.list(folder)), reverse=True)
        return (run for name in names[:MOST_READ] if (run := self.read(name)))

    def read(self, run: str) -> LiveRun | None:
        """Return a run's progress, or None."""
        try:
            return read_document(self._store, live_run(self._corpus, run), LiveRun)
        except (Unreadable, Newer):  # only displayed
            return None

    def sweep(self, now: dt.datetime, *, but: str) -> None:
        """Remove all runs except one and those in progress."""
        folder = live_runs(self._corpus)
        for name in [stored.key.removeprefix(folder).removesuffix(".json") for stored in self._store.list(folder)]:
            progress = self.read(name) if name != but else None
            if name != but and (progress is None or progress.state != "running" or progress.is_silent(now)):
                self.forget(name)
