"""What a Milvus collection answers to: searches by vectors, by words, and by both in one request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from pymilvus import AnnSearchRequest, RRFRanker, WeightedRanker

from tasks.adapters.milvus.connection import CALL_SECONDS
from tasks.adapters.milvus.filters import among
from tasks.adapters.milvus.reading import Reading, chunks
from tasks.adapters.milvus.row_dicts import as_data, as_stored
from tasks.adapters.milvus.vector_index import server_of
from tasks.adapters.rows.vectors.vector_types import narrow
from tasks.domain.errors import Permanent
from tasks.domain.job.index import Parameters
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.full_text import CANDIDATES, SPARSE_FIELD, Fusion

GROUPS_SINCE = (2, 4, 0)
QUERIES_PER_SEARCH = 256  # in one search call


class Searching(Reading):
    """The part of `tasks.adapters.milvus.milvus_collection.MilvusCollection` that searches."""

    _search_params: Parameters

    def search(
        self, vectors: np.ndarray, k: int, *, expression: str = "", fields: Iterable[str] = (), one_of_each: str | None = None
    ) -> list[list[Hit]]:
        side, wanted = self._by_meaning(vectors, self._ready()), list(fields)
        if one_of_each and self._can_group():
            with suppress(Permanent):  # not every index can; or the filter is wrong, which is said again
                return self._ask(side, k, expression, wanted, group_by_field=one_of_each)
        return self._ask(side, k, expression, wanted)

    def _can_group(self) -> bool:
        """Whether the server knows grouping searches; older ones pass over what they do not know."""
        server = server_of(self._connection)
        return server.kind != "Milvus" or server.number >= GROUPS_SINCE

    def search_text(self, texts: Sequence[str], k: int, *, expression: str = "", fields: Iterable[str] = ()) -> list[list[Hit]]:
        self._ready()
        found = self._ask(self._by_words(texts), k, expression, list(fields))
        # Milvus Lite gives them as distances, the least the best.
        return [[hit.model_copy(update={"score": abs(hit.score)}) for hit in hits] for hits in found]

    def search_hybrid(
        self, vectors: np.ndarray, texts: Sequence[str], k: int, fusion: Fusion, *, expression: str = "", fields: Iterable[str] = ()
    ) -> list[list[Hit]]:
        sides, wanted = (self._by_meaning(vectors, self._ready()), self._by_words(texts)), list(fields)

        def ask(first: int) -> Any:
            some = slice(first, first + QUERIES_PER_SEARCH)
            each = [AnnSearchRequest(data[some], field, how, limit=max(k, CANDIDATES), expr=expression) for data, field, how in sides]
            ranker = WeightedRanker(*fusion.weights) if fusion.weights else RRFRanker(fusion.rrf_k)
            how: dict[str, Any] = {"output_fields": wanted or ["id"], "consistency_level": "Strong", "timeout": CALL_SECONDS}
            return self._connection.client.hybrid_search(self.name, each, ranker, limit=k, **how)

        firsts = range(0, len(texts), QUERIES_PER_SEARCH)
        answers = [self._call(partial(ask, first), f"searching '{self.name}'") for first in firsts]
        return _hits(answers, wanted)

    def found_by_words(self, texts: Mapping[str, str]) -> set[str]:
        keys = list(texts)
        answers = self.search_text(list(texts.values()), len(keys), expression=among("id", keys)) if keys else []
        return {key for key, hits in zip(keys, answers, strict=True) if key in {hit.id for hit in hits}}

    def _by_meaning(self, vectors: np.ndarray, spec: CollectionSpec) -> tuple[list[Any], str, dict[str, Any]]:
        return as_data(narrow(vectors, spec.vector_type)), "vector", {"metric_type": spec.metric, "params": self._search_params}

    def _by_words(self, texts: Sequence[str]) -> tuple[list[Any], str, dict[str, Any]]:
        return list(texts), SPARSE_FIELD, {"metric_type": "BM25", "params": {}}

    def _ask(self, side: tuple[list[Any], str, dict[str, Any]], k: int, expression: str, wanted: list[str], **more: str) -> list[list[Hit]]:
        data, field, how = side

        def ask(some: list[Any]) -> Any:
            return self._connection.client.search(
                self.name,
                data=some,
                limit=k,
                filter=expression,
                output_fields=wanted or ["id"],  # of none Milvus Lite returns all
                search_params=how,
                anns_field=field,
                consistency_level="Strong",
                timeout=CALL_SECONDS,
                **more,
            )

        answers = [self._call(partial(ask, some), f"searching '{self.name}'") for some in chunks(data, QUERIES_PER_SEARCH)]
        return _hits(answers, wanted)


def _hits(answers: Iterable[Any], wanted: list[str]) -> list[list[Hit]]:
    return [[_hit(hit, wanted) for hit in hits] for answer in answers for hits in answer]


def _hit(hit: Any, wanted: list[str]) -> Hit:
    entity = {name: as_stored(value) for name, value in hit["entity"].items() if name in wanted}
    return Hit(id=hit["id"], score=float(hit["distance"]), fields=entity)
