"""A sample of sealed rows with their vectors, read from a few parts, and its projection to two dimensions.

Parts are drawn with probability proportional to their rows (Efraimidis and Spirakis, 2006: the largest u^(1/rows) win), rows
within a part uniformly. The draws depend only on the shard's id and the rows' positions: the same seals give the same sample.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.adapters.rows.collection_rows import upsert_vectors
from tasks.adapters.rows.vectors.sparse_vectors import densest, is_sparse
from tasks.domain.report.figures import PointGroup, Projection
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.target.fields import ScalarField

PARTS, MAP_ROWS = 8, 1_500
BYTES = 64 * 2**20  # of all parts that are read; at least one is read
COLOURED_VALUES = 12  # most distinct values of a field that is chosen for colours
HELD, POWER_ROUNDS = 12, 12  # subspace dimensions (more than two, for accuracy), and power iterations
COLOUR_GROUPS = 8  # the last may stand for all other values
HEAVIEST = 1_024  # dimensions of sparse vectors that are used
FEWEST_ROWS = 3  # fewest rows for two directions
LABEL_CHARACTERS = 60


class PartDraw:
    """Samples parts from a stream of seals; holds at most `PARTS` of them."""

    def __init__(self) -> None:
        self._drawn: list[tuple[float, str, Part]] = []

    def take(self, seal: Seal) -> Seal:
        """Include the seal's parts in the draw; return the seal."""
        for part in seal.parts:
            if part.rows:
                draw = _generator(part).random() ** (1 / part.rows)
                entry = (draw, part.key, part)
                (heapq.heappush if len(self._drawn) < PARTS else heapq.heappushpop)(self._drawn, entry)
        return seal

    def parts(self) -> list[Part]:
        """The parts to read, ordered by key: as many as fit into `BYTES`, in the order of the draw."""
        chosen: list[Part] = []
        for _, _, part in sorted(self._drawn, reverse=True):
            if not chosen or sum(other.bytes for other in chosen) + part.bytes <= BYTES:
                chosen.append(part)
        return sorted(chosen, key=lambda part: part.key)


def read_sample(parts: Sequence[Part], read: Callable[[Part], pa.Table]) -> pa.Table | None:
    """At most `MAP_ROWS` rows, with the columns of parts; holds one part in memory at a time. None: there are no rows.

    Raises:
        The errors of `read`.
    """
    tables: list[pa.Table] = []
    left = MAP_ROWS
    for place, part in enumerate(sorted(parts, key=lambda part: part.rows)):  # larger parts make up for the rows that small ones lack
        table = read(part)
        count = min(table.num_rows, -(-left // (len(parts) - place)))
        rows = _generator(part).sample(range(table.num_rows), count)
        tables.append(table.take(sorted(rows)))
        left -= count
    return pa.concat_tables(tables) if tables else None


def project(sample: pa.Table, dim: int, fields: Sequence[ScalarField], colour_by: str | None) -> Projection | None:
    """Project the sample on its first two principal components, by a singular value decomposition.

    Args:
        sample: rows from `read_sample`.
        dim: dimension of the vectors.
        fields: the metadata fields of the rows.
        colour_by: the source column for colours; None: the first field with few distinct values, if there is one.

    Returns:
        None if there are fewer than three rows, or all vectors are equal.
    """
    stored = upsert_vectors(sample, dim)
    vectors = densest(stored, HEAVIEST) if is_sparse(stored) else stored.astype(np.float64)
    if len(vectors) < FEWEST_ROWS:
        return None
    places, shares = _principal(vectors)
    if not sum(shares):
        return None
    field = _field(sample, fields, colour_by)
    names = [_value(value) for value in sample[field.name].to_pylist()] if field else ["rows"] * len(places)
    return Projection(rows=len(places), kept=shares, field=field.column if field else None, groups=_groups(places, names))


def _principal(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates of shape (rows, 2), and each direction's share of the variance. Fixes the arbitrary sign of each direction."""
    centred = vectors - vectors.mean(axis=0)
    variance = float((centred**2).sum())
    sizes, directions = _largest_directions(centred)
    two = np.zeros((2, vectors.shape[1]))
    two[: len(directions[:2])] = directions[:2]
    for place, direction in enumerate(two):
        two[place] = direction * (np.sign(direction[np.abs(direction).argmax()]) or 1.0)
    shares = np.zeros(2)
    if variance > np.finfo(np.float32).eps * max(float((vectors**2).sum()), 1e-30):
        shares[: len(sizes[:2])] = sizes[:2] ** 2 / variance
    return centred @ two.T, (float(shares[0]), float(shares[1]))


def _largest_directions(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values and their directions, as rows: a full decomposition would take seconds.

    Randomised subspace iteration: power iterations with orthogonalisation from a random start (Halko, Martinsson and Tropp, 2011).
    """
    basis = np.random.default_rng(0).standard_normal((centred.shape[1], min(HELD, *centred.shape)))
    for _ in range(POWER_ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    _, sizes, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    return sizes, rotation @ basis.T


def _field(sample: pa.Table, fields: Sequence[ScalarField], colour_by: str | None) -> ScalarField | None:
    if colour_by is not None:
        return next((field for field in fields if field.column == colour_by and field.name in sample.column_names), None)
    for field in fields:
        if field.type in {"varchar", "bool", "int64"} and 2 <= len(sample[field.name].unique()) <= COLOURED_VALUES:
            return field
    return None


def _value(value: Any) -> str:
    return "(none)" if value is None else f"{value:g}" if isinstance(value, float) else str(value)[:LABEL_CHARACTERS]


def _groups(places: np.ndarray, names: Sequence[str]) -> tuple[PointGroup, ...]:
    ranked = [name for name, _ in sorted(Counter(names).items(), key=lambda entry: (-entry[1], entry[0]))]
    own = _in_order(ranked if len(ranked) <= COLOUR_GROUPS else ranked[: COLOUR_GROUPS - 1])
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in own}
    others: list[tuple[float, float]] = []
    for name, (x, y) in zip(names, places.round(4).tolist(), strict=True):
        points.get(name, others).append((x, y))
    rest = (PointGroup(name=f"{len(ranked) - len(own):,} other values", points=tuple(others)),) if others else ()
    return (*(PointGroup(name=name, points=tuple(of_name)) for name, of_name in points.items()), *rest)


def _in_order(names: list[str]) -> list[str]:
    """Sort numbers by value for the legend; other values keep their order, the most frequent first."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def _generator(part: Part) -> random.Random:
    *_, shard, _attempt, name = part.key.split("/")
    return random.Random(f"{shard}/{name}")  # noqa: S311 - a sample, not a secret
