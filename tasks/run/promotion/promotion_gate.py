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

QUERIES_KEPT = 10  # questions whose vectors a report may ask again


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The result of the gate: notes, the reason of a refusal if any, and some of the queries."""

    told: list[str]
    refused: str | None
    asked: tuple[GateQuery, ...] = ()
    measured: Evaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateQuery:
    """A question and its vector: float32 of shape (1, dim), or a packed row."""

    query: str
    vector: np.ndarray  # one row of what the encoder gives


def ask_gate(plan: Plan, collection: Collection, live: str | None) -> GateResult:
    """Measure the new collection and, where the gate compares, the one that is live."""
    gate = plan.job.target.gate
    if gate is None:
        return GateResult(told=[], refused=None)
    questions = read_questions(gate.queries)
    ours = QueryEncoder(
        plan.job.encoder, model_path=plan.inspected.model.path, precision=plan.record.identity.precision, facts=plan.record.facts
    )
    vectors = _embed(ours, questions)
    asked = tuple(GateQuery(query=q.query, vector=vectors[at : at + 1]) for at, q in enumerate(questions[:QUERIES_KEPT]))
    measured = measure_quality(collection, plan.spec, vectors, questions, gate.at_k)
    new = measured.scores(vector_mode(plan.spec) if gate.mode in VECTOR_MODES else gate.mode)
    told = [f"gate, {measured.questions:,} questions: {line} for '{measured.collection}'" for line in measured.lines]
    try:
        old = _measure_live(plan, live, questions, gate) if live and gate.max_drop < 1 else None
    except BadInput as error:
        cure = "set target.gate.max_drop: 1 to go by target.gate.minimum alone"
        refused = f"'{live}' could not be asked the gate's questions ({error}): {cure}"
        return GateResult(told=told, refused=refused, asked=asked, measured=measured)
    # Searches have what is live by now: where it has no full text, that is search by meaning.
    before = old.scores(next((each.mode for each in old.modes if each.mode == gate.mode), old.modes[0].mode)) if old else None
    told += [f"gate, as it is now: {line} for '{old.collection}'" for line in old.lines] if old else []
    return GateResult(told=told, refused=why_not(gate, new, before), asked=asked, measured=measured)


def _measure_live(plan: Plan, live: str, questions: list[Question], gate: Gate) -> Evaluation:
    """With the encoder that made it.

    Raises:
        BadInput: that encoder is no longer available.
    """
    with closing(plan.inspected.open_target()) as target:
        collection = target.collection(live)
        made = collection.describe()
        loaded = encoder_that_made(plan, made)
        assert made is not None
        return measure_quality(collection, made, _embed(loaded, questions), questions, gate.at_k)


def _embed(loaded: QueryEncoder, questions: list[Question]) -> np.ndarray:
    try:
        return loaded.embed_queries([question.query for question in questions])
    finally:
        loaded.close()
