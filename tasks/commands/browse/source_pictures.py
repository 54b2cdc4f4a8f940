"""Pictures of hits, from the source: it is listed once, and what was read is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import KitestringError
from tasks.domain.job.job import Job
from tasks.run.plan import Plan, opened, plan_again
from tasks.run.preflight import inspect_job
from tasks.run.promotion.source_images import pictures_of

SIDE = 480  # pixels
MOST_KEPT = 2_000  # pictures, of some 20 kB each


class SourcePictures:
    """Small JPEGs by key, for rows of an image corpus; others have none, and so have rows whose files have changed."""

    def __init__(self, job: Job) -> None:
        target = job.target.model_copy(update={"gate": None})  # a gate's file that is not there yet is no reason to show none
        self._job = job.model_copy(update={"target": target})
        self._there = job.source.modality == "image"
        self._kept: dict[str, bytes] = {}
        self._plan: Plan | None = None
        self._open = ExitStack()
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def of(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those that can be read; a source that is gone gives none."""
        keys = list(dict.fromkeys(keys))
        if not self._there or not keys:
            return {}
        with self._turn:
            missing = [key for key in keys if key not in self._kept]
            try:
                self._keep(self._read(missing) if missing else {})
            except KitestringError:
                self._plan = None  # the source is listed anew with the next question
            return {key: self._kept[key] for key in keys if key in self._kept}

    def _read(self, keys: list[str]) -> dict[str, bytes]:
        if self._plan is None:
            self._open.close()
            self._plan = plan_again(inspect_job(self._job), self._open.enter_context(scratch_folder()))
        if self._plan is None:
            return {}
        with opened(self._plan) as collection:
            return dict(pictures_of(self._plan, collection, keys, side=SIDE))

    def _keep(self, found: dict[str, bytes]) -> None:
        self._kept.update(found)
        for key in list(self._kept)[: max(0, len(self._kept) - MOST_KEPT)]:
            del self._kept[key]
