"""Plans batches from the sizes of rows; does no I/O and uses no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

# The fixed cost of a call as a share of a full batch. Measured with all-MiniLM-L6-v2 on one core in batches of 1,000 tokens: the time
# of 17 tokens with OpenVINO, of 40 with torch, which also prepares for every new shape. With 1/16, torch and OpenVINO encode 2% more
# rows a second than with batches that are merely filled; with 1/32 torch gains nothing.
SHARE_OF_A_CALL = 1 / 16
EXACT_ROWS = 2048  # beyond this many rows, lengths are so dense that greedy filling pads little, and exact planning becomes slow


def plan_batches(sizes: Sequence[int], *, budget: int, rows: int) -> list[list[int]]:
    """Group rows of similar size so that the total cost of padding and calls is lowest.

    Args:
        sizes: tokens of each row.
        budget: maximum tokens in a batch, padding included (rows times the longest); a longer row is a batch of its own.
        rows: maximum rows in a batch.

    Returns:
        Indices into `sizes`, each once; the longest rows first, so that a batch that does not fit into memory fails early.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    lengths = [max(1, sizes[i]) for i in order]
    plan = _cheapest if len(order) <= EXACT_ROWS else _filled
    cuts = [0, *plan(lengths, budget, rows)]
    return [order[begin:end] for begin, end in pairwise(cuts)]


def plan_unpadded(sizes: Sequence[int], *, budget: int, rows: int) -> list[list[int]]:
    """Fill batches without padding, the longest rows first.

    Args:
        sizes: tokens of each row.
        budget: maximum tokens in a batch; a longer row is a batch of its own.
        rows: maximum rows in a batch.

    Returns:
        Indices into `sizes`, each once.
    """
    batches: list[list[int]] = []
    tokens = 0
    for row in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = max(1, sizes[row])
        if not batches or tokens + size > budget or len(batches[-1]) >= rows:
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += size
    return batches


def _filled(lengths: Sequence[int], budget: int, rows: int) -> list[int]:
    """Return the ends of batches that are each filled greedily. `lengths`: longest first."""
    ends, begin = [], 0
    for at in range(1, len(lengths)):
        if at - begin >= rows or (at + 1 - begin) * lengths[begin] > budget:
            ends.append(at)
            begin = at
    return [*ends, len(lengths)] if lengths else []


def _cheapest(lengths: Sequence[int], budget: int, rows: int) -> list[int]:
    """Return the batch ends with the lowest total of padded sizes and call costs, by dynamic programming."""
    longest, call = np.asarray(lengths, dtype=np.int64), budget * SHARE_OF_A_CALL
    positions = np.arange(len(lengths) + 1)
    cost, previous = np.zeros(len(lengths) + 1), np.zeros(len(lengths) + 1, dtype=np.int64)
    first = 0  # the earliest start of a batch with this end: rows and their length both grow towards the front
    for end in range(1, len(lengths) + 1):
        while first < end - 1 and (end - first > rows or (end - first) * lengths[first] > budget):
            first += 1
        ways = cost[first:end] + (end - positions[first:end]) * longest[first:end]
        best = int(ways.argmin())
        cost[end], previous[end] = ways[best] + call, first + best
    ends, end = [], len(lengths)
    while end:
        ends.append(end)
        end = int(previous[end])
    return ends[::-1]


def padded_size(batch: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the size of a batch in tokens, padding included; a row without tokens counts as one token."""
    return len(batch) * max((max(1, sizes[i]) for i in batch), default=0)
