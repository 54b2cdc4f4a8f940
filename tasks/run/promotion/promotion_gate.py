"""The gate: the new and the current collection answer the same queries."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.domain.errors import BadInput
from tasks.domain.job.gate import VECTOR_MODES, Gate, Question, why_not
from tasks.domain.ports import Collection
from tasks.domain.target.retrieval_quality import Evaluation
from tasks.run.plan import Plan
from tasks.run.promotion.evaluation import measure_quality
from tasks.run.promotion.live_collection import encoder_that_made
from tasks.run.promotion.query_encoder import QueryEncoder
from tasks.run.promotion.search_modes import vector_mode

QUERIES_KEPT = 10  # questions that are kept with their vectors, for the example searches of a report


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The result of the gate: notes, the reason of a refusal if any, and some of the queries."""

    notes: list[str]
    refused: str | None
    queries: tuple[GateQuery, ...] = ()
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateQuery:
    """A question and its vector: float32 of shape (1, dim), or a packed row."""

    query: str
    vector: np.ndarray


def evaluate_gate(plan: Plan, collection: Collection, live: str | None) -> GateResult:
    """Evaluate the new collection and, if the gate compares, the live one."""
    gate = plan.job.target.gate
    if gate is None:
        return GateResult(notes=[], refused=None)
    questions = read_questions(gate.queries)
    ours = QueryEncoder(
        plan.job.encoder, model_path=plan.inspected.model.path, precision=plan.record.identity.precision, facts=plan.record.facts
    )
    vectors = _embed(ours, questions)
    queries = tuple(GateQuery(query=q.query, vector=vectors[at : at + 1]) for at, q in enumerate(questions[:QUERIES_KEPT]))
    evaluation = measure_quality(collection, plan.spec, vectors, questions, gate.at_k)
    new = evaluation.scores(vector_mode(plan.spec) if gate.mode in VECTOR_MODES else gate.mode)
    notes = [f"gate, {evaluation.questions:,} questions: {line} for '{evaluation.collection}'" for line in evaluation.lines]
    try:
        old = _measure_live(plan, live, questions, gate) if live and gate.max_drop < 1 else None
    except BadInput as error:
        cure = "set target.gate.max_drop: 1 to use target.gate.minimum only"
        refused = f"the gate's questions could not be sent to '{live}' ({error}): {cure}"
        return GateResult(notes=notes, refused=refused, queries=queries, evaluation=evaluation)
    # Compare with the searches that the live collection offers: without full text, those by vectors.
    before = old.scores(next((each.mode for each in old.modes if each.mode == gate.mode), old.modes[0].mode)) if old else None
    notes += [f"gate, current collection: {line} for '{old.collection}'" for line in old.lines] if old else []
    return GateResult(notes=notes, refused=why_not(gate, new, before), queries=queries, evaluation=evaluation)


def _measure_live(plan: Plan, live: str, questions: list[Question], gate: Gate) -> Evaluation:
    """Evaluate the live collection with the encoder that made it.

    Raises:
        BadInput: that encoder is no longer available.
    """
    with closing(plan.inspected.open_target()) as target:
        collection = target.collection(live)
        spec = collection.describe()
        encoder = encoder_that_made(plan, spec)
        assert spec is not None
        return measure_quality(collection, spec, _embed(encoder, questions), questions, gate.at_k)


def _embed(encoder: QueryEncoder, questions: list[Question]) -> np.ndarray:
    try:
        return encoder.embed_queries([question.query for question in questions])
    finally:
        encoder.close()
