"""Compares the rows in a collection with the rows that an upsert would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.collection_rows import FieldTypes, upsert_vectors, whole
from tasks.adapters.rows.row_schema import WRAPPED
from tasks.adapters.rows.vectors.sparse_vectors import as_rows_of, is_sparse, products, sparse_rows
from tasks.adapters.rows.vectors.vector_types import rounded
from tasks.domain.job.index import VectorType
from tasks.domain.target.difference import Compared, Difference
from tasks.domain.target.fields import ELEMENTS, FieldType

LEAST_COSINE = 0.9999
LENGTHS = 1e-3  # relative
SHOWN_CHARACTERS = 60  # characters of a value that a difference shows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows as a collection returns them, each key once, in any order."""

    keys: list[str]
    vectors: np.ndarray  # float32 of shape (keys, dim), or packed rows of sparse ones
    fields: dict[str, pa.Array]  # all others

    def __add__(self, other: StoredRows) -> StoredRows:
        fields = {name: pa.concat_arrays([values, other.fields[name]]) for name, values in self.fields.items()}
        return StoredRows(keys=[*self.keys, *other.keys], vectors=np.concatenate([self.vectors, other.vectors]), fields=fields)


def compare_rows(sent: pa.Table, stored: StoredRows, columns: FieldTypes, vectors: VectorType, *, lite: bool = False) -> Compared:
    """Compare rows key by key.

    Args:
        sent: rows in the form that an upsert sends: texts truncated, and null replaced if the collection has no null.
        stored: those of them that the collection has.
        columns: the collection's fields.
        vectors: how it stores vectors; its rounding is tolerated.
        lite: it is Milvus Lite, which returns an empty list for a null one, and a JSON string without its quotes.
    """
    places = pc.index_in(whole(sent["id"]), value_set=pa.array(stored.keys, pa.string()))
    ids, shards = sent["id"].to_pylist(), sent["shard"].to_pylist()
    missing = np.flatnonzero(places.is_null().to_numpy(zero_copy_only=False))
    differences = [Difference(key=ids[i], kind="absent", shard=shards[i]) for i in missing]
    present, at = sent.filter(places.is_valid()), places.drop_null()
    holders = stored.fields["shard"].take(at)
    ours = pc.equal(whole(present["shard"]), holders)
    differences += _moved(present, holders, ours)
    present, at = present.filter(ours), at.filter(ours)  # a row of another shard is another row
    lowest = None
    if len(at):
        wrong, lowest = _vectors(present, stored.vectors[at.to_numpy()], vectors)
        differences += wrong
        for name, kind in columns.items():
            if kind is not None and name not in ("id", "shard"):
                differences += _field(name, kind, present, stored.fields[name].take(at), lite=lite)
    return Compared(rows=sent.num_rows, differences=tuple(differences), lowest_cosine=lowest)


def _moved(rows: pa.Table, holders: pa.Array, ours: pa.Array) -> Iterator[Difference]:
    for i in np.flatnonzero(~ours.to_numpy(zero_copy_only=False)).tolist():
        yield Difference(key=rows["id"][i].as_py(), kind="shard", shard=rows["shard"][i].as_py(), held_by=holders[i].as_py() or "")


# ---- vectors ----


def _vectors(rows: pa.Table, stored: np.ndarray, kind: VectorType) -> tuple[list[Difference], float]:
    return _sparse(rows, stored) if is_sparse(stored) else _dense(rows, stored, kind)


def _sparse(rows: pa.Table, stored: np.ndarray) -> tuple[list[Difference], float]:
    """Compare index by index and bit by bit: sparse vectors are never rounded."""
    expected, ids, shards = sparse_rows(rows["vector"]), rows["id"], rows["shard"]
    places = np.flatnonzero(stored != expected).tolist()
    similarities = [_cosine_of(expected[i], stored[i]) for i in places]
    wrong = [
        Difference(key=ids[i].as_py(), kind="vector", shard=shards[i].as_py(), told=f"sparse, cosine {cosine:.6f}")
        for i, cosine in zip(places, similarities, strict=True)
    ]
    return wrong, min(similarities, default=1.0)


def _cosine_of(one: bytes, other: bytes) -> float:
    both = as_rows_of([one, other])
    (own, across), (_, others) = products(both, both).astype(float).tolist()
    return across / (own * others) ** 0.5 if own and others else 0.0


def _dense(rows: pa.Table, stored: np.ndarray, kind: VectorType) -> tuple[list[Difference], float]:
    sealed = upsert_vectors(rows, stored.shape[1])
    expected = rounded(sealed, kind)
    to_expected = cosines(stored, expected)
    lengths = np.linalg.norm(stored, axis=1), np.linalg.norm(expected, axis=1)
    right = (to_expected >= LEAST_COSINE) & np.isclose(*lengths, rtol=LENGTHS)
    ids, shards = rows["id"], rows["shard"]
    wrong = [
        Difference(
            key=ids[int(i)].as_py(),
            kind="vector",
            shard=shards[int(i)].as_py(),
            told=_describe_difference(to_expected[i], lengths[0][i], lengths[1][i]),
        )
        for i in np.flatnonzero(~right)
    ]
    return wrong, float(cosines(stored, sealed).min())


def _describe_difference(cosine: float, stored: float, expected: float) -> str:
    return f"cosine {cosine:.6f}" if not cosine >= LEAST_COSINE else f"length {stored:.6g}, sealed {expected:.6g}"


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows; 1 for equal vectors, including zeros."""
    if not len(left):
        return np.empty(0)
    products = (left.astype(np.float64) * right).sum(axis=1)
    lengths = np.linalg.norm(left.astype(np.float64), axis=1) * np.linalg.norm(right.astype(np.float64), axis=1)
    same = (left == right).all(axis=1)
    similarities: np.ndarray = np.where(same, 1.0, products / np.where(lengths == 0, 1, lengths))
    return similarities


# ---- other fields ----


def _field(name: str, kind: FieldType, rows: pa.Table, stored: pa.Array, *, lite: bool) -> Iterator[Difference]:
    sealed = whole(rows[name])
    for i in _unequal(kind, sealed, stored, lite=lite):
        key, shard = rows["id"][i].as_py(), rows["shard"][i].as_py()
        if name == "text":
            yield Difference(key=key, kind="text", shard=shard)
        else:
            values = f"{_short(stored[i].as_py())}, sealed {_short(sealed[i].as_py())}"
            yield Difference(key=key, kind="field", field=name, shard=shard, told=values)


def _unequal(kind: FieldType, sealed: pa.Array, stored: pa.Array, *, lite: bool) -> list[int]:
    if kind in ELEMENTS:
        pairs = zip(sealed.to_pylist(), stored.to_pylist(), strict=True)
        return [i for i, (expected, actual) in enumerate(pairs) if not _same_list(expected, actual, lite=lite)]
    differ = pc.xor(sealed.is_null(), stored.is_null())
    values = pc.not_equal(sealed, stored).fill_null(False)
    if kind == "double":
        values = pc.and_not(values, pc.and_(pc.is_nan(sealed), pc.is_nan(stored)).fill_null(False))
    places: list[int] = np.flatnonzero(pc.or_(differ, values).to_numpy(zero_copy_only=False)).tolist()
    return places if kind != "json" else [i for i in places if not _same_text(sealed[i].as_py(), stored[i].as_py(), lite=lite)]


def _same_list(expected: list[Any] | None, actual: list[Any] | None, *, lite: bool) -> bool:
    if expected is None or actual is None:
        return expected is actual or (lite and not expected and not actual)
    return len(expected) == len(actual) and all(a == b or (a != a and b != b) for a, b in zip(expected, actual, strict=True))  # noqa: PLR0124 - NaN


def _same_text(expected: str | None, actual: str | None, *, lite: bool) -> bool:
    """Compare JSON by value: a server may format it differently, and one without null fields stores the JSON value null."""
    # An older version stored JSON that is not an object unwrapped.
    if lite and expected is not None and actual is not None and json.loads(expected) == {WRAPPED: actual}:
        return True
    try:
        return same_json(json.loads(expected or "null"), json.loads(actual or "null"))
    except ValueError:
        return False


def same_json(expected: Any, actual: Any) -> bool:
    """Return whether JSON values are equal; 1 equals 1.0, and a boolean is not a number."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same_json(value, actual[key]) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same_json, expected, actual))
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual) or (expected != expected and actual != actual)  # noqa: PLR0124 - NaN


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else "")
