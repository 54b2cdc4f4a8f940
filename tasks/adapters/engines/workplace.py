"""The resources of a host for one run: the source, stores and model that an `EncodingSpec` names, opened on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain.encoding.encoding_events import DocumentMoved, Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.job.job import Job
from tasks.domain.ports import Store


@dataclass(slots=True)
class RequestShare:
    """The limit of requests in flight from this host to a model server; None: the job's setting."""

    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """`model`: its files on this machine, if the caller has located them; `parts`: URL of the store for parts."""

    spec: EncodingSpec
    scratch: Path
    source: SourceFiles[Any]
    store: Store
    damages: Damages
    parts: str
    model: LocatedModel | None
    tell: Tell
    requests: RequestShare = field(default_factory=RequestShare)

    @property
    def job(self) -> Job:
        """The job's encoding part: source, encoder, shards."""
        return self.spec.job


def open_workplace(
    spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None
) -> Workplace:
    """Open the source and the checkpoint; reads nothing yet. Except in a dry run, damaged documents will be moved aside when met.

    Args:
        spec: the work.
        scratch: a private folder, removed by the caller.
        tell: receives an event for each document that is moved aside, later for each shard.
        store: the checkpoint, if it is open already.
        model: the model's files, if located already.
    """
    job = spec.job
    store = store or open_store(job.checkpoint, proven=True)  # the run has used it
    damages = Damages(store, job.corpus)
    if not spec.dry:
        damages.mend(spec.run, lambda key, line: tell(DocumentMoved(key=key, line=line)))
    return Workplace(
        spec=spec,
        scratch=scratch,
        source=open_source(job.source, rows=job.shards.rows, own=(job.checkpoint, job.target.address)),
        store=store,
        damages=damages,
        parts=str(scratch / "parts") if spec.dry else job.checkpoint,
        model=model,
        tell=tell,
    )
