"""Kitestring from Python, in a notebook, a script or another Prefect flow: read or build a job, run it, search it.

    from flows.api import read_job, run, search

    job = read_job("job.yaml")
    result = run(job)
    hits = search(job, "how do I tie a bowline")

Each function raises `tasks.domain.errors.KitestringError`: `BadInput` for errors that the caller can correct, `RunFailed` for a run that
did not complete. All functions work while an event loop is running.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from flows.job_file import read_job as _read_job
from flows.run_command import run_command
from tasks.adapters.processes.freed_memory import return_large_blocks
from tasks.domain.job.gate import SearchMode
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override, parse_job
from tasks.domain.shards.row_accounting import RowCounts, ShardCounts
from tasks.domain.target.collection import Hit
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.retrieval_quality import Evaluation, PrecisionQuality
from tasks.worker.system.memory import give_back

if TYPE_CHECKING:
    from tasks.commands.inspect import Status

__all__ = ["Hit", "Job", "RunResult", "make_job", "read_job", "run", "search", "status"]
Answer = TypeVar("Answer")


class RunResult(BaseModel):
    """The result of a run; `report` has all figures."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: RowCounts
    shards: ShardCounts
    verified: bool = Field(description="Whether the collection was verified against the sealed shards.")
    proof: str = Field("", description="What was compared.")
    report: str = Field(description="Path or URI of the HTML report.")
    notes: tuple[str, ...] = Field((), description="Decisions and findings of the run, as sentences.")
    gate: Evaluation | None = Field(None, description="Retrieval quality of the new collection on the gate's queries.")
    precision_quality: PrecisionQuality | None = Field(
        None, description="nDCG of vectors in int8 or float8 beside that of float32, on those questions; None: other precision or no gate."
    )


def read_job(place: str, **settings: Any) -> Job:
    """Read a job from a file (YAML or JSON).

    Args:
        place: a path, or a URI such as s3://bucket/job.yaml.
        settings: overrides of single settings, with `__` instead of dots: `shards__rows=1000`.

    Raises:
        BadInput: the file is missing or not a job; the message names the key.
    """
    return override(_read_job(place, None), {name.replace("__", "."): value for name, value in settings.items()})


def make_job(**document: Any) -> Job:
    """Make a job from the keys of a job file: `corpus`, `source`, `encoder`, `checkpoint`, `target` and others.

    Raises:
        BadInput: a key is wrong; the message names it and the reason.
    """
    return parse_job(document)


def run(job: Job) -> RunResult:
    """Plan, encode, load, verify and report. Resumes an earlier run and repeats no finished work.

    Within a Prefect flow it runs as a subflow, with that flow's server. Otherwise it runs the command `kitestring run` in a separate
    process, which ends with this one; progress goes to `sys.stderr`.

    Raises:
        BadInput: something that the job names is missing or does not fit; nothing was written.
        RunFailed: a shard failed, too many rows were quarantined, or the collection is not verified.
    """
    if not _in_a_flow():
        return RunResult.model_validate(run_command(job))
    from flows.embed import embed_corpus

    return RunResult.model_validate(_without_event_loop(partial(embed_corpus, job)))


def search(
    job: Job,
    text: str | None = None,
    k: int = 10,
    *,
    image: str | None = None,
    filter: str = "",  # noqa: A002 - named as in the command and in Milvus
    mode: SearchMode | None = None,
    fusion: Fusion | None = None,
) -> list[Hit]:
    """Return the k best hits for a text, or for an image (a path or a URI); the best first.

    For many queries open a `tasks.commands.search.Searcher`, which loads the encoder once.

    Args:
        job: a job that has been run.
        text: the query text.
        k: number of hits.
        image: query image instead of text, for open-clip jobs.
        filter: a Milvus filter expression over the metadata fields.
        mode: by meaning (dense, or sparse), by words or both; None: both if the collection has full text.
        fusion: how to fuse both results; None: by ranks.

    Raises:
        BadInput: nothing is loaded yet, or the query does not fit the collection.
    """
    from tasks.commands.search import SearchOptions, ask

    way = SearchOptions(mode=mode, fusion=fusion or Fusion())
    return_large_blocks()
    try:
        return _without_event_loop(lambda: ask(job, k, text=text, picture=image, expression=filter, way=way))
    finally:
        gc.collect()  # models have reference cycles: with all-MiniLM-L6-v2 every search left 60 MB in a notebook's process
        give_back()


def status(job: Job) -> Status:
    """Return which shards and rows are sealed, loaded and searchable, and the run in progress.

    Raises:
        BadInput: something that the job names is missing.
    """
    from tasks.commands.inspect import look_at_status

    return _without_event_loop(lambda: look_at_status(job))


def _in_a_flow() -> bool:
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def _without_event_loop(call: Callable[[], Answer]) -> Answer:
    """Call a function in a thread without an event loop: inside a running loop Prefect treats calls as asynchronous."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, call).result()
