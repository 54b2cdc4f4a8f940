"""Retrieval quality of vectors in 8 bits beside that of float32: a gate's questions, ranked exactly over the same rows.

There are no float32 vectors of the whole corpus. The flow embeds the rows that matter in float32: the nearest of each question in 8 bits, and all
judged rows. The vectors in 8 bits are those of the collection. Questions are embedded in float32 for both, as in searches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

import numpy as np
from pydantic import JsonValue

from tasks.adapters.checkpoint.json_documents import utc_now, write_document
from tasks.adapters.rows.vectors.vector_types import rounded
from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.adapters.targets.memory_collection import score
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EIGHT_BITS
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.encoder import QUERY_SETTINGS
from tasks.domain.job.gate import Gate, Question, question_scores
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_fields import chunk_key, has_chunks, split_chunk_key
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.document_hits import MOST_HITS
from tasks.domain.target.retrieval_quality import ModeQuality, PrecisionQuality
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.promotion.evaluation import SEED, intervals
from tasks.run.promotion.query_encoder import QueryEncoder
from tasks.run.promotion.row_texts import source_texts, stored_texts
from tasks.run.promotion.search_modes import answer

LEAST_NEAREST = 3  # nearest rows of a question, in multiples of k; a smaller `most` means fewer questions
FLOAT32_SECONDS = 60.0  # time limit of embedding
EMBEDDED_AT_ONCE = 200  # rows, whose texts have at most 64 KiB each
SCORES_AT_ONCE = 1 << 20  # of questions with rows: 8 MiB, and as much for their order
CHUNKS_ASKED = 64  # of each document at a time
GAP = 8  # chunks that may be missing in a row, such as quarantined ones
TIMES_AS_MANY = 2  # growth or shrinkage of the collection after which a result is measured again

Counting = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def precision_quality(run: Run, plan: Plan, collection: Collection) -> PrecisionQuality | None:
    """Returns the comparison for the gate's questions; None if the precision is not 8 bits, or the job has no gate or `float32_rows: 0`.

    Measures once for each collection, index and set of questions and keeps the result in the checkpoint; measures again once the collection has
    more than twice or less than half as many rows.

    Raises:
        BadInput: no question could be compared; names the reason.
    """
    gate = plan.job.target.gate
    if gate is None or not gate.float32_rows or not in_eight_bits(plan):
        return None
    questions, rows = read_questions(gate.queries), collection.count()
    key = plan.checkpoint.layout.quality(_digest(plan, collection.name, questions, gate))
    kept = plan.checkpoint.read(key, PrecisionQuality)
    if kept and max(kept.of_rows, rows) <= TIMES_AS_MANY * min(kept.of_rows, rows):
        return kept
    counting = partial(run.journal.counting, "rows embedded in float32")
    encoder = QueryEncoder(plan.job.encoder, model_path=plan.inspected.model.path, precision="float32", facts=plan.record.facts)
    try:
        with run.journal.during("compare"):
            found = compare_precisions(plan, collection, encoder, questions, gate.at_k, most=gate.float32_rows, counting=counting)
    finally:
        encoder.close()
    found = found.model_copy(update={"run": run.id})
    write_document(plan.checkpoint.store, key, found)
    return found


def in_eight_bits(plan: Plan) -> bool:
    """Whether the rows of a plan are embedded in 8 bits."""
    return plan.record.identity.precision in EIGHT_BITS


def _digest(plan: Plan, collection: str, questions: Sequence[Question], gate: Gate) -> str:
    """Digest of everything that the result depends on, except the encoder and the rows."""
    asked: list[JsonValue] = [question.model_dump(mode="json") for question in questions]
    how = {name: getattr(plan.job.encoder, name, None) for name in QUERY_SETTINGS}
    index: JsonValue = plan.spec.index.model_dump(mode="json")
    spec: dict[str, JsonValue] = {"collection": collection, "index": index, "metric": plan.spec.metric, "vectors": plan.spec.vector_type}
    return digest({"asked": asked, "how": how, "k": gate.at_k, "rows": gate.float32_rows, **spec})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question and its rows."""

    question: Question
    place: int  # among all
    vector: np.ndarray  # float32 of shape (dim,)
    judged: list[str]  # rows of the collection; of documents, all of their chunks
    near: list[str]
    scores: tuple[float, float, float]  # of the collection's own answer


@dataclass(frozen=True, slots=True)
class _Rows:
    """Vectors of rows by key, float32 of shape (dim,), in both precisions; and the keys that could not be embedded in float32."""

    reduced: dict[str, np.ndarray] = field(default_factory=dict)
    float32: dict[str, np.ndarray] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  # no text, or no finite vector

    def answers(self, asked: _Asked) -> bool:
        """Returns whether all rows of a question were embedded; nearest rows without text may be missing."""
        return self.float32.keys() >= set(asked.judged) and self.float32.keys() | self.unread >= set(asked.near)


def compare_precisions(
    plan: Plan,
    collection: Collection,
    encoder: QueryEncoder,
    questions: Sequence[Question],
    k: int,
    *,
    most: int,
    counting: Counting = lambda _total: nullcontext(lambda _done: None),
    seconds: float = FLOAT32_SECONDS,
) -> PrecisionQuality:
    """Ranks the same rows by their vectors in 8 bits and in float32.

    Args:
        plan: of the corpus; its source is read for texts that the collection lacks.
        collection: with the vectors in 8 bits.
        encoder: in float32.
        questions: a sample with a fixed seed is taken if `most` or `seconds` do not suffice for all.
        k: number of hits that are judged.
        most: maximum number of nearest rows, and of judged rows.
        counting: shows the progress, given the number of rows.
        seconds: time limit of embedding; checked after each batch.

    Raises:
        BadInput: no question could be compared; names the reason.
    """
    made = collection.describe() or plan.spec
    count = min(len(questions), max(1, most // (LEAST_NEAREST * k)))
    drawn = {at: questions[at] for at in np.random.default_rng(SEED).permutation(len(questions))[:count].tolist()}
    nearest = min(MOST_HITS, max(k, most // count))
    asked = list(_ask(collection, made, encoder, drawn, k=k, nearest=nearest, most=most))
    if not asked:
        raise BadInput(f"each question has more than {most:,} judged rows (target.gate.float32_rows)")
    rows = _embed(plan, collection, made, encoder, asked, counting=counting, until=time.monotonic() + seconds)
    compared = sorted((each for each in asked if rows.answers(each)), key=lambda each: each.place)  # as a gate asks them
    if not compared:
        left = sum(len(set(each.judged) & rows.unread) for each in asked)
        why = f"judged rows could not be read ({left:,})" if left else f"embedding the rows of one took more than {seconds:.0f} s on a CPU"
        raise BadInput(f"no question could be compared: {why}; target.gate.float32_rows: 0 leaves it out")
    both = [np.array(list(_scores(made, compared, vectors, k))) for vectors in (rows.reduced, rows.float32)]
    searched, reduced, float32, difference = map(_quality, (np.array([each.scores for each in compared]), *both, both[0] - both[1]))
    judged = {key for each in compared for key in each.question.relevant}
    return PrecisionQuality(
        run="",
        at=utc_now(),
        collection=collection.name,
        precision=plan.record.identity.precision,
        at_k=k,
        questions=len(compared),
        of_questions=len(questions),
        nearest=max(len(each.near) for each in compared),
        rows=len(rows.float32),
        of_rows=collection.count(),
        absent=len(judged - {_source_key(made, key) for each in compared for key in each.judged}),
        unread=len({key for each in compared for key in each.near} & rows.unread),
        searched=searched,
        reduced=reduced,
        float32=float32,
        difference=difference,
    )


def _source_key(made: CollectionSpec, key: str) -> str:
    """Returns the source's key of a row: for a chunk, the key of its document."""
    return split_chunk_key(key)[0] if has_chunks(made.fields) else key


def _ask(
    collection: Collection, made: CollectionSpec, encoder: QueryEncoder, drawn: Mapping[int, Question], *, k: int, nearest: int, most: int
) -> Iterator[_Asked]:
    """Yields the questions with their rows; skips those that would exceed `most` judged rows."""
    fit = {place: question for place, question in drawn.items() if len(question.relevant) <= most}
    if not fit:
        return
    texts, by_document = [question.query for question in fit.values()], has_chunks(made.fields)
    vectors = encoder.embed_queries(texts)
    ask = partial(answer, collection, "dense", vectors, texts, by_document=by_document)
    there = _judged_rows(
        collection, list(dict.fromkeys(chain(*(each.relevant for each in fit.values())))), by_document=by_document, most=most
    )
    seen: set[str] = set()
    for (place, question), vector, hits, near in zip(fit.items(), vectors, ask(k), _as_far_as_it_can(ask, nearest, least=k), strict=True):
        judged = [key for relevant in question.relevant for key in there.get(relevant, ())]
        if len(seen.union(judged)) > most:
            continue
        seen.update(judged)
        scores = question_scores([_source_key(made, hit.id) for hit in hits], question, k)
        yield _Asked(question=question, place=place, vector=vector, judged=judged, near=[hit.id for hit in near], scores=scores)


def _as_far_as_it_can(ask: Callable[[int], list[list[Hit]]], k: int, *, least: int) -> list[list[Hit]]:
    """Returns the k nearest of each question, or fewer if the server refuses k, as it does beyond HNSW's `ef`."""
    try:
        return ask(k)
    except Permanent:
        if k <= least:
            raise
        return _as_far_as_it_can(ask, max(least, k // 2), least=least)


def _judged_rows(collection: Collection, keys: list[str], *, by_document: bool, most: int) -> dict[str, list[str]]:
    """Returns the rows in the collection of each key: the row itself, or the chunks of the document. Stops soon after `most` chunks of one."""
    if not by_document:
        return {key: [key] for key in collection.shards_of(keys)}
    found: dict[str, list[str]] = {key: [] for key in keys}
    open_ended, first = keys, 0
    while open_ended:
        asked = {key: [chunk_key(key, first + number) for number in range(CHUNKS_ASKED)] for key in open_ended}
        there = collection.shards_of(list(chain(*asked.values())))
        for key, chunks in asked.items():
            found[key] += [chunk for chunk in chunks if chunk in there]
        first += CHUNKS_ASKED
        open_ended = [key for key, chunks in asked.items() if not there.keys().isdisjoint(chunks[-GAP:]) and len(found[key]) <= most]
    return found


def _embed(
    plan: Plan,
    collection: Collection,
    made: CollectionSpec,
    encoder: QueryEncoder,
    asked: Sequence[_Asked],
    *,
    counting: Counting,
    until: float,
) -> _Rows:
    """Embeds rows in float32, question by question, until the time limit."""
    rows, judged = _Rows(), {key for each in asked for key in each.judged}
    keys = list(dict.fromkeys(chain(*((*each.judged, *each.near) for each in asked))))
    lacking: list[str] = []  # the collection has no text, or a truncated one
    with counting(len(keys)) as add:
        for some in _blocks(keys) if made.store_text else ():
            texts = stored_texts(collection, some)
            lacking += [key for key in some if key not in texts]
            if not _embed_some(collection, made, encoder, texts, rows, add=add, until=until):
                return rows
        lacking = lacking if made.store_text else keys
        first, others = ([key for key in lacking if (key in judged) is wanted] for wanted in (True, False))
        found = source_texts(plan, collection, first, others=others) if lacking else {}
        rows.unread.update(key for key in lacking if key not in found)
        for some in _blocks([key for key in lacking if key in found]):
            if not _embed_some(collection, made, encoder, {key: found[key] for key in some}, rows, add=add, until=until):
                return rows
    return rows


def _embed_some(
    collection: Collection,
    made: CollectionSpec,
    encoder: QueryEncoder,
    texts: dict[str, str],
    rows: _Rows,
    *,
    add: Callable[[int], None],
    until: float,
) -> bool:
    """Adds the vectors of some texts by key; returns False if the time limit was reached."""
    keys, reduced = collection.fetch(list(texts)) if texts else ([], np.zeros((0, made.dim), np.float32))
    rows.unread.update(texts.keys() - set(keys))
    for places, vectors in encoder.embed_rows([texts[key] for key in keys]) if keys else ():
        for place, vector in zip(places, rounded(vectors, made.vector_type), strict=True):
            if np.isfinite(vector).all():
                rows.reduced[keys[place]], rows.float32[keys[place]] = reduced[place], vector
            else:
                rows.unread.add(keys[place])
        add(len(places))
        if time.monotonic() > until:
            return False
    return True


def _blocks(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[first : first + EMBEDDED_AT_ONCE] for first in range(0, len(keys), EMBEDDED_AT_ONCE))


def _scores(made: CollectionSpec, asked: Sequence[_Asked], vectors: dict[str, np.ndarray], k: int) -> Iterator[tuple[float, float, float]]:
    """Yields nDCG, recall and reciprocal rank of each question over all rows, ranked exactly; ties are ordered by key."""
    keys = sorted(vectors)
    names, matrix = [_source_key(made, key) for key in keys], np.stack([vectors[key] for key in keys])
    at_once = max(1, SCORES_AT_ONCE // len(keys))
    for first in range(0, len(asked), at_once):
        some = asked[first : first + at_once]
        questions = rounded(np.stack([each.vector for each in some]), made.vector_type)
        scores = score(questions, matrix, made.metric) * (1 if made.metric == "L2" else -1)
        for each, order in zip(some, np.argsort(scores, axis=1, kind="stable"), strict=True):
            yield question_scores(_first_names((names[at] for at in order), k), each.question, k)


def _first_names(ranked: Iterable[str], k: int) -> list[str]:
    """Returns the first k different names."""
    seen: set[str] = set()
    return list(islice((name for name in ranked if not (name in seen or seen.add(name))), k))  # type: ignore[func-returns-value]


def _quality(scores: np.ndarray) -> ModeQuality:
    ndcg, recall, mrr = intervals(scores)
    return ModeQuality(mode="dense", ndcg=ndcg, recall=recall, mrr=mrr)
