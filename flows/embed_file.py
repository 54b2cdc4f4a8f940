"""The flow that reads its job from a file: its run form has two fields."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.embed import MOST_THREADS, embed_corpus
from flows.job_file import read_job
from flows.parameters import Overrides
from flows.run_names import named
from tasks.run.group_window import threads

JobFilePlace = Annotated[str, Field(json_schema_extra={"title": "Job file"})]


@flow(name="embed-file", flow_run_name=named(), task_runner=threads(MOST_THREADS))
def embed_file(job_file: JobFilePlace, overrides: Overrides | None = None) -> dict[str, Any]:
    """Run `embed-corpus` with the job from a file.

    Args:
        job_file: A path on the worker, a URI such as s3://lake/jobs/docs.yaml, or variable:NAME for a Prefect variable that holds the job.
        overrides: Single settings by their dotted path, such as {"shards.rows": 1000}; other settings of the file stay as they are.

    Raises:
        BadInput: the file is missing or not a job; or as `embed-corpus`.
        RunFailed: as `embed-corpus`.
    """
    return embed_corpus.fn(read_job(job_file, None), overrides)
