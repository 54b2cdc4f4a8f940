"""Searches of a Milvus collection: by vectors, by words (BM25), and hybrid in one request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from pymilvus import AnnSearchRequest, RRFRanker, WeightedRanker

from tasks.adapters.milvus.connection import CALL_SECONDS
from tasks.adapters.milvus.filters import among
from tasks.adapters.milvus.reading import Reading
from tasks.adapters.milvus.row_dicts import as_data, as_stored
from tasks.adapters.milvus.vector_index import server_of
from tasks.adapters.rows.vectors.vector_types import narrow
from tasks.domain.errors import Permanent
from tasks.domain.job.index import Parameters
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.full_text import CANDIDATES, SPARSE_FIELD, Fusion

GROUPS_SINCE = (2, 4, 0)
QUERIES_PER_SEARCH = 256  # in one search call
LITE_FIRST, LITE_SECONDS = 8, 3.0  # queries in the first call to Milvus Lite, and the target duration of later calls
LITE_CALL_SECONDS = (
    600.0  # it runs in this process and cannot be unreachable; the first search builds the scoring data of words and sparse vectors
)


class Searching(Reading):
    """The part of `tasks.adapters.milvus.milvus_collection.MilvusCollection` that searches."""

    _search_params: Parameters

    def search(
        self, vectors: np.ndarray, k: int, *, expression: str = "", fields: Iterable[str] = (), one_of_each: str | None = None
    ) -> list[list[Hit]]:
        side, output_fields = self._by_meaning(vectors, self._ready()), list(fields)
        if one_of_each and self._can_group():
            with suppress(Permanent):  # not every index can group; a wrong filter raises again below
                return self._ask(side, k, expression, output_fields, group_by_field=one_of_each)
        return self._ask(side, k, expression, output_fields)

    def _can_group(self) -> bool:
        """Whether the server supports grouping searches; older ones ignore the parameter."""
        server = server_of(self._connection)
        return server.kind != "Milvus" or server.number >= GROUPS_SINCE

    def search_text(self, texts: Sequence[str], k: int, *, expression: str = "", fields: Iterable[str] = ()) -> list[list[Hit]]:
        self._ready()
        answers = self._ask(self._by_words(texts), k, expression, list(fields))
        # Milvus Lite returns negative scores, as distances: the smallest is the best.
        return [[hit.model_copy(update={"score": abs(hit.score)}) for hit in hits] for hits in answers]

    def search_hybrid(
        self, vectors: np.ndarray, texts: Sequence[str], k: int, fusion: Fusion, *, expression: str = "", fields: Iterable[str] = ()
    ) -> list[list[Hit]]:
        sides, output_fields = (self._by_meaning(vectors, self._ready()), self._by_words(texts)), list(fields)

        def ask(some: slice) -> Any:
            each = [AnnSearchRequest(data[some], field, params, limit=max(k, CANDIDATES), expr=expression) for data, field, params in sides]
            ranker = WeightedRanker(*fusion.weights) if fusion.weights else RRFRanker(fusion.rrf_k)
            options: dict[str, Any] = {
                "output_fields": output_fields or ["id"],
                "consistency_level": "Strong",
                "timeout": self._call_seconds,
            }
            return self._connection.client.hybrid_search(self.name, each, ranker, limit=k, **options)

        return _hits(self._in_turn(len(texts), ask), output_fields)

    def found_by_words(self, texts: Mapping[str, str]) -> set[str]:
        keys = list(texts)
        answers = self.search_text(list(texts.values()), len(keys), expression=among("id", keys)) if keys else []
        return {key for key, hits in zip(keys, answers, strict=True) if key in {hit.id for hit in hits}}

    def _by_meaning(self, vectors: np.ndarray, spec: CollectionSpec) -> tuple[list[Any], str, dict[str, Any]]:
        return as_data(narrow(vectors, spec.vector_type)), "vector", {"metric_type": spec.metric, "params": self._search_params}

    def _by_words(self, texts: Sequence[str]) -> tuple[list[Any], str, dict[str, Any]]:
        return list(texts), SPARSE_FIELD, {"metric_type": "BM25", "params": {}}

    def _ask(
        self, side: tuple[list[Any], str, dict[str, Any]], k: int, expression: str, output_fields: list[str], **more: str
    ) -> list[list[Hit]]:
        data, field, params = side

        def ask(some: slice) -> Any:
            return self._connection.client.search(
                self.name,
                data=data[some],
                limit=k,
                filter=expression,
                output_fields=output_fields or ["id"],  # with an empty list Milvus Lite returns all fields
                search_params=params,
                anns_field=field,
                consistency_level="Strong",
                timeout=self._call_seconds,
                **more,
            )

        return _hits(self._in_turn(len(data), ask), output_fields)

    @property
    def _call_seconds(self) -> float:
        return LITE_CALL_SECONDS if self._connection.lite else CALL_SECONDS

    def _in_turn(self, count: int, ask: Callable[[slice], Any]) -> Iterator[Any]:
        """Answers to `count` queries, split over several calls.

        Milvus Lite scores words and sparse vectors in Python: on a busy machine 200 queries of some thousand rows exceeded the timeout of a call,
        and the retry then ran beside the abandoned call.
        """
        first, size = 0, LITE_FIRST if self._connection.lite else QUERIES_PER_SEARCH
        while first < count:
            began = time.monotonic()
            yield self._call(partial(ask, slice(first, first + size)), f"searching '{self.name}'")
            first, took = first + size, time.monotonic() - began
            size = next_size(size, took) if self._connection.lite else size


def next_size(size: int, took: float) -> int:
    """How many queries to send to Milvus Lite next, after `size` queries took `took` seconds."""
    return min(QUERIES_PER_SEARCH, max(1, int(size * LITE_SECONDS / max(took, 1e-3))))


def _hits(answers: Iterable[Any], output_fields: list[str]) -> list[list[Hit]]:
    return [[_hit(hit, output_fields) for hit in hits] for answer in answers for hits in answer]


def _hit(hit: Any, output_fields: list[str]) -> Hit:
    entity = {name: as_stored(value) for name, value in hit["entity"].items() if name in output_fields}
    return Hit(id=hit["id"], score=float(hit["distance"]), fields=entity)
