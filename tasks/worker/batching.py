"""Which rows are encoded together: pure planning over sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

# What a call costs by itself, as a share of a full batch. Measured with all-MiniLM-L6-v2 on one core, batches of 1,000 tokens: 17
# tokens' time with OpenVINO, 40 with torch, which also has to prepare for every new shape. With 1/16 torch encodes 2% more rows a second
# than with batches that are merely filled, and OpenVINO as well; with 1/32 torch gains nothing.
SHARE_OF_A_CALL = 1 / 16
EXACT_ROWS = 2048  # more have so many neighbours of one length that filling batches up pads little; and planning would begin to cost


def plan_batches(sizes: Sequence[int], *, budget: int, rows: int) -> list[list[int]]:
    """Pack rows of similar size together, so that padding and calls cost least in all.

    Args:
        sizes: tokens of each row.
        budget: most tokens in a batch, padding counted (rows times the longest); a longer row is alone.
        rows: most rows in a batch.

    Returns:
        Indices into `sizes`, each once; the longest rows first, so that what does not fit shows itself early.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    lengths = [max(1, sizes[i]) for i in order]
    plan = _cheapest if len(order) <= EXACT_ROWS else _filled
    cuts = [0, *plan(lengths, budget, rows)]
    return [order[begin:end] for begin, end in pairwise(cuts)]


def plan_unpadded(sizes: Sequence[int], *, budget: int, rows: int) -> list[list[int]]:
    """Fill batches in which nothing is padded, the longest rows first.

    Args:
        sizes: tokens of each row.
        budget: most tokens in a batch; a longer row is alone.
        rows: most rows in a batch.

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
    """Where batches end if each takes what it can. `lengths`: longest first."""
    ends, begin = [], 0
    for at in range(1, len(lengths)):
        if at - begin >= rows or (at + 1 - begin) * lengths[begin] > budget:
            ends.append(at)
            begin = at
    return [*ends, len(lengths)] if lengths else []


def _cheapest(lengths: Sequence[int], budget: int, rows: int) -> list[int]:
    """Where batches end so that their padded sizes and their calls are least in sum: by the cheapest way to each row."""
    longest, call = np.asarray(lengths, dtype=np.int64), budget * SHARE_OF_A_CALL
    positions = np.arange(len(lengths) + 1)
    cost, previous = np.zeros(len(lengths) + 1), np.zeros(len(lengths) + 1, dtype=np.int64)
    first = 0  # the earliest row that a batch with this end can begin at: both its rows and their length grow towards the front
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
    """What a batch costs, padding counted; a row of no tokens counts as one."""
    return len(batch) * max((max(1, sizes[i]) for i in batch), default=0)
