"""Group the hits of a collection of chunks by document: the best chunk of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.domain.target.collection import Hit

MOST_HITS = 16_384  # most hits that a server returns
MORE = 4  # factor by which to increase the number of hits if they cover too few documents

Ask = Callable[[int], list[list[Hit]]]


def best_of_documents(ask: Ask, k: int) -> list[list[Hit]]:
    """Return the best chunk of each of the k nearest documents, for each query.

    Args:
        ask: returns the n nearest chunks for each query; fewer if there are no more, or if it groups by document itself.
        k: number of documents.
    """
    limit = k
    while True:
        hits_of_queries = ask(limit)
        best = [_best(hits) for hits in hits_of_queries]
        short = any(len(documents) < k and len(hits) >= limit for documents, hits in zip(best, hits_of_queries, strict=True))
        if not short or limit >= MOST_HITS:
            return [documents[:k] for documents in best]
        limit = min(MOST_HITS, limit * MORE)


def _best(hits: Sequence[Hit]) -> list[Hit]:
    seen = dict[object, Hit]()
    for hit in hits:
        seen.setdefault(hit.fields["document"], hit)
    return list(seen.values())
