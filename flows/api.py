"""Kitestring from Python, in a notebook, a script or somebody else's Prefect flow: a job is read or built, run, and searched.

    from flows.api import read_job, run, search

    job = read_job("job.yaml")
    result = run(job)
    hits = search(job, "how do I tie a bowline")

Each raises `tasks.domain.errors.KitestringError`: `BadInput` for what the caller can put right, `RunFailed` for a run that did not end as it
should. All of it works where an event loop is running.
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
from tasks.domain.target.retrieval_quality import Evaluation
from tasks.worker.system.memory import give_back

if TYPE_CHECKING:
    from tasks.commands.inspect import Status

__all__ = ["Hit", "Job", "RunResult", "make_job", "read_job", "run", "search", "status"]
Answer = TypeVar("Answer")


class RunResult(BaseModel):
    """How a run ended; every figure is in `report`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: RowCounts
    shards: ShardCounts
    verified: bool = Field(description="Whether the collection was proved to hold what is sealed.")
    proof: str = Field("", description="What was compared.")
    report: str = Field(description="Where the HTML page is: a path or a URI.")
    notes: tuple[str, ...] = Field((), description="What the run decided or found, for people.")
    gate: Evaluation | None = Field(None, description="How well the new collection answers the gate's questions.")


def read_job(place: str, **settings: Any) -> Job:
    """A job from a file (YAML or JSON).

    Args:
        place: a path, or a URI such as s3://bucket/job.yaml.
        settings: single settings over it, with `__` for the dots: `shards__rows=1000`.

    Raises:
        BadInput: it is not there, or not a job; names the key.
    """
    return override(_read_job(place, None), {name.replace("__", "."): value for name, value in settings.items()})


def make_job(**document: Any) -> Job:
    """A job from its keys, as a job file has them: `corpus`, `source`, `encoder`, `checkpoint`, `target` and others.

    Raises:
        BadInput: names the key, and what is wrong with it.
    """
    return parse_job(document)


def run(job: Job) -> RunResult:
    """Plan, encode, load, verify and report; resumes by itself, and does nothing twice.

    In a Prefect flow it is a subflow of it, with its server. Elsewhere it is the command `kitestring run` in a process of its own, which
    ends with this one; progress goes to `sys.stderr`.

    Raises:
        BadInput: something that the job names is not there or does not fit; nothing was written.
        RunFailed: a shard failed, too many rows were quarantined, or the collection is not verified.
    """
    if not _in_a_flow():
        return RunResult.model_validate(run_command(job))
    from flows.embed import embed_corpus

    return RunResult.model_validate(_away_from_loops(partial(embed_corpus, job)))


def search(
    job: Job,
    text: str | None = None,
    k: int = 10,
    *,
    image: str | None = None,
    filter: str = "",  # noqa: A002 - the word of the command and of Milvus
    mode: SearchMode | None = None,
    fusion: Fusion | None = None,
) -> list[Hit]:
    """The k best rows for some words, or the nearest to an image (a path or a URI); the best first.

    For many questions open a `tasks.commands.search.Searcher`, which loads the encoder once.

    Args:
        job: whose collection; it has been run.
        text: the words.
        k: number of hits.
        image: instead of words, for open-clip jobs.
        filter: a Milvus filter expression over the metadata fields.
        mode: by meaning (dense, or sparse), by words or both; None: both where the collection has full text.
        fusion: how both become one list; None: by ranks.

    Raises:
        BadInput: nothing was loaded yet, or the question does not fit the collection.
    """
    from tasks.commands.search import SearchWay, ask

    way = SearchWay(mode=mode, fusion=fusion or Fusion())
    return_large_blocks()
    try:
        return _away_from_loops(lambda: ask(job, k, text=text, picture=image, expression=filter, way=way))
    finally:
        gc.collect()  # a model is full of cycles; measured with all-MiniLM-L6-v2, every search had left 60 MB more in a notebook's process
        give_back()


def status(job: Job) -> Status:
    """What is sealed, loaded and searchable, and the run that is under way.

    Raises:
        BadInput: something that the job names is not there.
    """
    from tasks.commands.inspect import look_at_status

    return _away_from_loops(lambda: look_at_status(job))


def _in_a_flow() -> bool:
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def _away_from_loops(call: Callable[[], Answer]) -> Answer:
    """In a thread without an event loop: where one is running, Prefect takes calls for asynchronous ones."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, call).result()
