"""The rows of questions in 8 bits and in float32: which are compared, and what is said where some cannot be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.targets.memory_collection import score
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.gate import Gate, Question
from tasks.domain.job.index import Index
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_fields import CHUNK_FIELDS, chunk_key, split_chunk_key
from tasks.domain.target.fields import VARCHAR_BYTES, ScalarField
from tasks.run.promotion import precision_quality
from tasks.run.promotion.precision_quality import compare_precisions
from tasks.run.promotion.query_encoder import QueryEncoder
from tests.builders.collections import DIM, part_of, spec_of

ROWS = 120
KEYS = [f"r{row:03}" for row in range(ROWS)]
EXACT = np.random.default_rng(1).standard_normal((ROWS, DIM)).astype(np.float32)
COARSE = (EXACT + np.random.default_rng(2).normal(0, 0.4, EXACT.shape)).astype(np.float32)
TEXTS = [f"{row}" for row in range(ROWS)]
QUERIES = (EXACT[::10] + np.random.default_rng(3).normal(0, 0.5, EXACT[::10].shape)).astype(np.float32)
QUESTIONS = [Question(query=f"{place}", relevant={KEYS[10 * place]: 1.0}) for place in range(len(QUERIES))]


class Encoder(QueryEncoder):
    """Knows the vectors of rows and questions by their numbers; five rows a batch."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.embedded: list[int] = []

    def close(self) -> None:
        pass

    def embed_queries(self, texts: list[str]) -> np.ndarray:
        return QUERIES[[int(text) for text in texts]]

    def embed_rows(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        for first in range(0, len(texts), 5):
            places = list(range(first, min(first + 5, len(texts))))
            rows = [int(texts[place]) for place in places]
            self.embedded += rows
            yield places, EXACT[rows]


def opened(texts: list[str] = TEXTS, vectors: np.ndarray = COARSE, **spec: Any) -> Collection:
    made = MemoryTarget(f"memory://{uuid.uuid4()}").collection("c")
    made.ensure(spec_of("c", **spec))
    made.upsert(part_of(KEYS, vector=list(vectors), text=texts))
    return made


def planned(**spec: Any) -> Any:
    """A corpus of which nothing is planned any more."""
    return Plan(spec_of("c", **spec))


class Plan(list[Any]):
    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec, self.record = spec, SimpleNamespace(identity=SimpleNamespace(precision="int8"))


def first_right(vectors: np.ndarray, rows: list[int]) -> float:
    """The share of questions whose answer is the nearest of some rows, by cosine: nDCG@1."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.mean([rows[int(np.argmax(unit[rows] @ query))] == 10 * place for place, query in enumerate(QUERIES)]))


def test_the_nearest_and_the_judged_rows_are_compared_and_no_others_are_embedded() -> None:
    encoder, collection = Encoder(), opened()
    found = compare_precisions(planned(), collection, encoder, QUESTIONS, 1, most=48)
    near = {int(hit.id[1:]) for hits in collection.search(QUERIES, 4) for hit in hits}
    rows = sorted(near | set(range(0, ROWS, 10)))
    assert sorted(encoder.embedded) == rows
    assert (found.nearest, found.rows, found.of_rows, found.questions, found.unread) == (4, len(rows), ROWS, len(QUESTIONS), 0)
    assert found.reduced.ndcg.mean == found.searched.ndcg.mean == first_right(COARSE, list(range(ROWS)))
    assert found.float32.ndcg.mean == first_right(EXACT, rows) >= first_right(EXACT, list(range(ROWS)))
    assert found.difference.ndcg.mean == pytest.approx(found.reduced.ndcg.mean - found.float32.ndcg.mean)
    assert found.difference.ndcg.mean < 0
    assert found.line.endswith(f"in float32; 12 questions over {len(rows)} of 120 rows, all judged rows among them")


def test_float32_is_rounded_as_the_collection_stores_vectors() -> None:
    found = compare_precisions(planned(), opened(vectors=EXACT, vector_type="int8"), Encoder(), QUESTIONS, 3, most=2_000)
    assert found.reduced == found.float32
    assert found.asked == "12 questions over all 120 rows"


def test_of_many_questions_some_are_drawn_and_always_the_same() -> None:
    found = [compare_precisions(planned(), opened(), Encoder(), QUESTIONS, 2, most=30) for _ in range(2)]
    assert (found[0].questions, found[0].of_questions, found[0].nearest) == (5, 12, 6)
    assert found[0].model_copy(update={"at": ""}) == found[1].model_copy(update={"at": ""})
    assert found[0].asked.startswith("5 of 12 questions over ")


def test_judged_rows_that_the_collection_lacks_count_as_not_found_in_either() -> None:
    questions = [*QUESTIONS[:2], Question(query="2", relevant={"gone": 1.0, "lost": 1.0})]
    found = compare_precisions(planned(), opened(), Encoder(), questions, 1, most=2_000)
    assert (found.questions, found.absent) == (3, 2)
    assert found.float32.ndcg.mean <= 2 / 3
    some = compare_precisions(planned(), opened(), Encoder(), questions, 1, most=30)
    assert some.asked.endswith(", all judged rows of the collection among them; 2 judged keys are not in the collection")


def test_questions_whose_rows_take_too_long_are_left_out() -> None:
    told: list[int] = []

    @contextmanager
    def counting(total: int) -> Iterator[Any]:
        told.append(total)
        yield told.append

    encoder = Encoder()
    found = compare_precisions(planned(), opened(), encoder, QUESTIONS, 1, most=48, seconds=0, counting=counting)
    assert (found.questions, found.rows, len(encoder.embedded), told[1:]) == (1, 5, 5, [5])
    with pytest.raises(BadInput, match="no question could be compared: embedding the rows of one took more than 0 s on a CPU"):
        compare_precisions(planned(), opened(), Encoder(), QUESTIONS, 1, most=2_000, seconds=0)


def test_rows_whose_text_is_not_to_be_had_are_left_out_or_their_questions() -> None:
    """What the collection has cut is looked for in the source, which has it no longer."""
    cut = {row: f"{row}".ljust(VARCHAR_BYTES + 9) for row in (0, 1)}
    texts = [cut.get(row, text) for row, text in enumerate(TEXTS)]
    found = compare_precisions(planned(), opened(texts), Encoder(), QUESTIONS, 1, most=2_000)
    assert (found.questions, found.rows, found.unread) == (11, 118, 2)
    assert found.asked == "11 of 12 questions over 118 of 120 rows, all judged rows among them; 2 rows could not be read"
    with pytest.raises(BadInput, match=r"no question could be compared: judged rows could not be read \(1\)"):
        compare_precisions(planned(), opened(texts), Encoder(), QUESTIONS[:1], 1, most=2_000)


def test_a_search_that_has_a_limit_gives_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HNSW with `ef: 16`, which a server refuses to search for more hits than that."""
    collection = opened()
    search = collection.search

    def limited(vectors: np.ndarray, k: int, **how: Any) -> Any:
        if k > 16:
            raise Permanent("ef(16) should be larger than k")
        return search(vectors, k, **how)

    monkeypatch.setattr(collection, "search", limited)
    assert compare_precisions(planned(), collection, Encoder(), QUESTIONS, 1, most=2_000).nearest == 10
    with pytest.raises(Permanent, match="ef"):
        compare_precisions(planned(), collection, Encoder(), QUESTIONS, 17, most=2_000)


def test_a_question_with_more_judged_rows_than_may_be_compared_is_left_out() -> None:
    wide = Question(query="3", relevant=dict.fromkeys(KEYS[:40], 1.0))
    found = compare_precisions(planned(), opened(), Encoder(), [*QUESTIONS[:2], wide], 1, most=30)
    assert (found.questions, found.of_questions) == (2, 3)
    with pytest.raises(BadInput, match=r"each question has more than 30 judged rows \(target\.gate\.float32_rows\)"):
        compare_precisions(planned(), opened(), Encoder(), [wide], 1, most=30)


def test_of_a_long_document_all_chunks_are_compared_though_one_is_quarantined() -> None:
    keys = [chunk_key("d", number) for number in range(ROWS) if number != 5]
    parts = {
        "document": ["d"] * len(keys),
        "chunk": [split_chunk_key(key)[1] for key in keys],
        "start": [0] * len(keys),
        "end": [1] * len(keys),
    }
    fields = tuple(ScalarField(**field.model_dump(include={"name", "column", "type"})) for field in CHUNK_FIELDS)
    made = MemoryTarget(f"memory://{uuid.uuid4()}").collection("c")
    made.ensure(spec_of("c", fields=fields))
    texts = [str(number) for number in parts["chunk"]]
    made.upsert(part_of(keys, fields=fields, vector=list(COARSE[parts["chunk"]]), text=texts, **parts))
    found = compare_precisions(planned(), made, Encoder(), [Question(query="0", relevant={"d": 1.0})], 1, most=200)
    assert (found.rows, found.absent) == (len(keys), 0)


def test_the_memory_of_many_questions_over_many_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_quality, "SCORES_AT_ONCE", 1 << 10)
    shapes: list[tuple[int, ...]] = []

    def noted(questions: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
        shapes.append((len(questions), len(vectors)))
        return score(questions, vectors, metric)

    monkeypatch.setattr(precision_quality, "score", noted)
    found = compare_precisions(planned(), opened(), Encoder(), QUESTIONS, 1, most=2_000)
    assert shapes == [(8, ROWS), (4, ROWS)] * 2
    assert found.reduced.ndcg.mean == first_right(COARSE, list(range(ROWS)))
    assert found.float32.ndcg.mean == first_right(EXACT, list(range(ROWS)))


def test_another_collection_or_index_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result says how the collection was searched, through its index."""
    monkeypatch.setattr(precision_quality, "QueryEncoder", Encoder)
    (tmp_path / "q.jsonl").write_text('{"query": "0", "relevant": ["r000"]}\n')
    checkpoint = Checkpoint(open_store(str(tmp_path / "checkpoint")), "rows", "0f" * 16)
    gate = Gate(queries=str(tmp_path / "q.jsonl"), at_k=1)
    job = SimpleNamespace(target=SimpleNamespace(gate=gate), encoder=SentenceTransformersEncoder(model="m"))

    def measured(run: str, collection: Collection, **spec: Any) -> str:
        plan = planned(**spec)
        plan.job, plan.checkpoint, plan.inspected = job, checkpoint, SimpleNamespace(model=SimpleNamespace(path=""))
        plan.record.facts = None
        journal = SimpleNamespace(counting=lambda *_: nullcontext(lambda _: None), during=lambda _: nullcontext())
        found = precision_quality.precision_quality(SimpleNamespace(id=run, journal=journal), plan, collection)  # type: ignore[arg-type]
        assert found is not None
        return found.run

    collection, other = opened(), MemoryTarget(f"memory://{uuid.uuid4()}").collection("other")
    other.ensure(spec_of("other"))
    other.upsert(part_of(KEYS, vector=list(COARSE), text=TEXTS))
    assert [measured("1", collection), measured("2", collection)] == ["1", "1"]
    assert [measured("3", other), measured("4", collection), measured("5", other)] == ["3", "1", "3"]
    flat = Index(type="FLAT")
    assert [measured("6", collection, index=flat), measured("7", collection)] == ["6", "1"]
