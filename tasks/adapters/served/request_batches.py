"""Groups texts into requests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MOST_CHARACTERS = 300_000  # in a request: TEI accepts 2 MB, and a character in JSON may take six bytes


def plan_requests(texts: Sequence[str], *, most: int, alone: Collection[int] = ()) -> list[list[int]]:
    """Batches of text positions, each position once; texts of similar length together, because some servers pad a request to its longest text.

    Args:
        texts: the texts to send.
        most: most texts in a request.
        alone: positions that get a request of their own.
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
