"""Opens the engine of any kind. A new kind needs a file beside this one and a line in `tasks.domain.job.engine.ENGINES`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_events import Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.errors import BadInput
from tasks.domain.job.engine import ENGINES
from tasks.domain.job.kinds import declared_at
from tasks.domain.ports import Engine, Store


class OpenEngine(Protocol):
    """The function that opens an engine of one kind."""

    def __call__(
        self, spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None
    ) -> Engine:
        """See `open_engine`."""


def open_engine(spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None) -> Engine:
    """The engine that a job selects; starts no process until it is used.

    Args:
        spec: the run.
        scratch: a private folder on this machine, removed by the caller after `close`.
        tell: receives every event, in any thread.
        store: the checkpoint, if it is open already; used by an engine that encodes in this process.
        model: the model's files on this machine, if located already; used likewise.

    Raises:
        BadInput: something that the job names cannot be opened, or the engine is not installed.
    """
    name = spec.job.compute.engine.kind
    kind = ENGINES[name]
    if kind.extra and importlib.util.find_spec(kind.module or kind.extra) is None:
        raise BadInput(f"compute.engine.kind: {name} is not installed here: pip install -e '.[{kind.extra}]', on every host")
    opens: OpenEngine = declared_at(kind.opens)
    return opens(spec, scratch=scratch, tell=tell, store=store, model=model)
