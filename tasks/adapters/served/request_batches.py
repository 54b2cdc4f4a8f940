"""Which texts are sent together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MOST_CHARACTERS = 300_000  # in a request: TEI takes 2 MB, and a character of JSON may be six bytes


def plan_requests(texts: Sequence[str], *, most: int, alone: Collection[int] = ()) -> list[list[int]]:
    """Positions of texts, each once; texts of like lengths together, because some servers pad a request to its longest.

    Args:
        texts: to be sent.
        most: in a request.
        alone: positions that get a request each.
    """
    order = sorted((at for at in range(len(texts)) if at not in alone), key=lambda at: -len(texts[at]))
    batches, batch, characters = [[at] for at in sorted(alone)], list[int](), 0
    for at in order:
        if batch and (len(batch) >= most or characters + len(texts[at]) > MOST_CHARACTERS):
            batches.append(batch)
            batch, characters = [], 0
        batch.append(at)
        characters += len(texts[at])
    return [*batches, batch] if batch else batches
