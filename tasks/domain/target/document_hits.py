"""Hits of a collection of chunks by document: the best chunk of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.domain.target.collection import Hit

MOST_HITS = 16_384  # that a server returns
MORE = 4  # times as many are asked for when too few documents are among them

Ask = Callable[[int], list[list[Hit]]]


def best_of_documents(ask: Ask, k: int) -> list[list[Hit]]:
    """The best chunk of each of the k nearest documents, for each query.

    Args:
        ask: gives the nearest chunks, as many as it is told; fewer where there are no more, or where it knows the best of each document itself.
        k: documents.
    """
    asked = k
    while True:
        answers = ask(asked)
        best = [_best(hits) for hits in answers]
        short = any(len(found) < k and len(hits) >= asked for found, hits in zip(best, answers, strict=True))
        if not short or asked >= MOST_HITS:
            return [found[:k] for found in best]
        asked = min(MOST_HITS, asked * MORE)


def _best(hits: Sequence[Hit]) -> list[Hit]:
    seen = dict[object, Hit]()
    for hit in hits:
        seen.setdefault(hit.fields["document"], hit)
    return list(seen.values())
