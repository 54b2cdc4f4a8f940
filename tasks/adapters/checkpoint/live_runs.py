"""How far the runs of a corpus are, as they tell it in the checkpoint: what `kitestring status --watch` follows from any machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from tasks.adapters.checkpoint.json_documents import read_document, write_document
from tasks.domain.errors import Newer, Unreadable
from tasks.domain.ports import Store
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.shards.layout import live_run, live_runs

MOST_READ = 8  # of the newest


class LiveRuns:
    """Those of one corpus. Every method raises the store's errors."""

    def __init__(self, store: Store, corpus: str) -> None:
        self._store, self._corpus = store, corpus

    def publish(self, run: LiveRun) -> None:
        """Tell how far a run is; replaces what it told before."""
        write_document(self._store, live_run(self._corpus, run.run), run)

    def forget(self, run: str) -> None:
        """Tell nothing of a run any more."""
        self._store.delete(live_run(self._corpus, run))

    def newest(self) -> Iterator[LiveRun]:
        """The newest runs first, those that have ended since the last one began as well. One that cannot be read is left out."""
        folder = live_runs(self._corpus)
        names = sorted((found.key.removeprefix(folder).removesuffix(".json") for found in self._store.list(folder)), reverse=True)
        return (run for name in names[:MOST_READ] if (run := self.read(name)))

    def read(self, run: str) -> LiveRun | None:
        """How far one run is; None: it tells nothing."""
        try:
            return read_document(self._store, live_run(self._corpus, run), LiveRun)
        except (Unreadable, Newer):  # nothing depends on it
            return None

    def sweep(self, now: dt.datetime, *, but: str) -> None:
        """Forget all runs but one and those that are under way."""
        folder = live_runs(self._corpus)
        for name in [found.key.removeprefix(folder).removesuffix(".json") for found in self._store.list(folder)]:
            told = self.read(name) if name != but else None
            if name != but and (told is None or told.state != "running" or told.is_silent(now)):
                self.forget(name)
