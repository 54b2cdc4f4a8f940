"""`kitestring evaluate`: compare search by vectors, by words and by both on questions with known answers, and 8-bit vectors with float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.gate import FLOAT32_ROWS
from tasks.domain.job.job import Job
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.retrieval_quality import Evaluation, PrecisionQuality
from tasks.run.plan import Plan, planned_before
from tasks.run.promotion.precision_quality import in_eight_bits


def evaluate_job(
    job: Job, queries: str | None, k: int | None, *, fusion: Fusion, float32_rows: int | None = None, say: Callable[[str], object]
) -> tuple[Evaluation, PrecisionQuality | None]:
    """Evaluate the job's collection on questions with known answers, by meaning, by words and by both; compare vectors in 8 bits with float32.

    Args:
        job: names the collection and the encoder.
        queries: a file as for `target.gate.queries`; None: the gate's file.
        k: hits that are judged; None: the gate's number, or 10.
        fusion: how hybrid search merges hits.
        float32_rows: as `target.gate.float32_rows`; None: the gate's, or its default.
        say: takes the reason if there is no comparison with float32.

    Raises:
        BadInput: there are no questions, nothing was loaded with this encoder, or `float32_rows` asks for a comparison that is not possible.
    """
    gate = job.target.gate
    if queries is None and gate is None:
        raise BadInput(
            "--queries: there is no file of questions, and the job has no target.gate: name a file, as in --queries questions.jsonl"
        )
    questions = read_questions(queries, "--queries") if queries is not None else read_questions(gate.queries if gate else "")
    k = k or (gate.at_k if gate else 10)
    most = float32_rows if float32_rows is not None else gate.float32_rows if gate else FLOAT32_ROWS
    with Searcher(job) as searcher:
        measured = searcher.evaluate(questions, k, fusion)
        if not most or not in_eight_bits(searcher.plan):
            return measured, None
        try:
            with _with_texts(job, searcher) as plan:
                return measured, searcher.compare_precisions(questions, k, plan, most=most)
        except KitestringError as error:
            if float32_rows is not None:
                raise
            say(f"the questions were not compared with float32: {error}")
            return measured, None


@contextmanager
def _with_texts(job: Job, searcher: Searcher) -> Iterator[Plan]:
    """Yield a plan with which texts can be found; lists the source only if the collection stores no texts."""
    if searcher.spec().store_text:
        yield searcher.plan
    else:
        with planned_before(job) as plan:
            yield plan
