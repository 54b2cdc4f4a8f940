"""Which rows are encoded together: pure planning over sizes."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_EDGE = 8


def plan_batches(sizes: Sequence[int], *, budget: int, rows: int) -> list[list[int]]:
    """Pack rows of similar size together.

    Args:
        sizes: tokens of each row.
        budget: most tokens in a batch, padding counted (rows times the longest); a longer row is alone.
        rows: most rows in a batch.

    Returns:
        Indices into `sizes`, each once; the longest rows first, so that what does not fit shows itself early.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        batch = batches[-1] if batches else None
        longest = sizes[batch[0]] if batch else 0
        if batch is None or len(batch) >= rows or (len(batch) + 1) * longest > budget:
            batches.append([index])
        else:
            batch.append(index)
    return batches


def padded_size(batch: Sequence[int], sizes: Sequence[int]) -> int:
    """What a batch costs, padding counted; a row of no tokens counts as one."""
    return len(batch) * max((max(1, sizes[i]) for i in batch), default=0)


def upper_edge(size: int) -> int:
    """The bin of a length: the smallest power of two, from 8, that is not below it."""
    return max(SMALLEST_EDGE, 1 << max(0, size - 1).bit_length())


def histogram(sizes: Sequence[int]) -> dict[int, int]:
    """Rows by length: the bin's upper edge to its count, shortest first."""
    counts: dict[int, int] = {}
    for size in sizes:
        edge = upper_edge(size)
        counts[edge] = counts.get(edge, 0) + 1
    return dict(sorted(counts.items()))
