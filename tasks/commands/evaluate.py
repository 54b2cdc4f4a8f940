"""`kitestring evaluate`: does search by words, or by both, help on this corpus?"""

from __future__ import annotations

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.retrieval_quality import Evaluation


def evaluate_job(job: Job, queries: str | None, k: int | None, *, fusion: Fusion) -> Evaluation:
    """Ask the job's collection questions with known answers, by meaning, by words and by both.

    Args:
        job: whose collection and encoder.
        queries: a file as for `target.gate.queries`; None: the gate's own.
        k: hits that are judged; None: as the gate does, or 10.
        fusion: how hybrid hits are made.

    Raises:
        BadInput: no questions, or nothing was loaded with this encoder.
    """
    gate = job.target.gate
    if queries is None and gate is None:
        raise BadInput(
            "--queries: no file of questions is named, and the job has no target.gate: give one, as in --queries questions.jsonl"
        )
    questions = read_questions(queries, "--queries") if queries is not None else read_questions(gate.queries if gate else "")
    with Searcher(job) as searcher:
        return searcher.evaluate(questions, k or (gate.at_k if gate else 10), fusion)
