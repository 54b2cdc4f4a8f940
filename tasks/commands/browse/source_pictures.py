"""Pictures of hits, read from the source. The source is listed once, and pictures are cached."""

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
MOST_KEPT = 2_000  # pictures in the cache, of about 20 kB each


class SourcePictures:
    """Small JPEGs by key, for rows of an image corpus; other rows, and rows of changed files, have none. Thread-safe."""

    def __init__(self, job: Job) -> None:
        target = job.target.model_copy(update={"gate": None})  # pictures do not need the gate's file, which may not exist yet
        self._job = job.model_copy(update={"target": target})
        self._has_pictures = job.source.modality == "image"
        self._kept: dict[str, bytes] = {}
        self._plan: Plan | None = None
        self._open = ExitStack()
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def of(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The pictures that can be read; none if the source is gone."""
        keys = list(dict.fromkeys(keys))
        if not self._has_pictures or not keys:
            return {}
        with self._turn:
            missing = [key for key in keys if key not in self._kept]
            try:
                self._keep(self._read(missing) if missing else {})
            except KitestringError:
                self._plan = None  # the next call lists the source again
            return {key: self._kept[key] for key in keys if key in self._kept}

    def _read(self, keys: list[str]) -> dict[str, bytes]:
        if self._plan is None:
            self._open.close()
            self._plan = plan_again(inspect_job(self._job), self._open.enter_context(scratch_folder()))
        if self._plan is None:
            return {}
        with opened(self._plan) as collection:
            return dict(pictures_of(self._plan, collection, keys, side=SIDE))

    def _keep(self, pictures: dict[str, bytes]) -> None:
        self._kept.update(pictures)
        for key in list(self._kept)[: max(0, len(self._kept) - MOST_KEPT)]:
            del self._kept[key]
