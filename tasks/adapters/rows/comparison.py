"""Rows that a collection holds, compared with the rows that an upsert would have sent."""

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
    """Rows as a collection gives them, each key once, in any order."""

    keys: list[str]
    vectors: np.ndarray  # float32 of shape (keys, dim), or packed rows of sparse ones
    fields: dict[str, pa.Array]  # all others

    def __add__(self, other: StoredRows) -> StoredRows:
        fields = {name: pa.concat_arrays([values, other.fields[name]]) for name, values in self.fields.items()}
        return StoredRows(keys=[*self.keys, *other.keys], vectors=np.concatenate([self.vectors, other.vectors]), fields=fields)


def compare_rows(sent: pa.Table, held: StoredRows, columns: FieldTypes, vectors: VectorType, *, lite: bool = False) -> Compared:
    """Compare key by key.

    Args:
        sent: rows in the form in which an upsert sends them: texts cut, and null replaced where the collection has none.
        held: those of them that are there.
        columns: the collection's fields.
        vectors: how it stores vectors: what that rounds is allowed for.
        lite: it is Milvus Lite, which gives an empty list back for a null one, and a JSON string without its quotes.
    """
    places = pc.index_in(whole(sent["id"]), value_set=pa.array(held.keys, pa.string()))
    ids, shards = sent["id"].to_pylist(), sent["shard"].to_pylist()
    missing = np.flatnonzero(places.is_null().to_numpy(zero_copy_only=False))
    found = [Difference(key=ids[i], kind="absent", shard=shards[i]) for i in missing]
    there, at = sent.filter(places.is_valid()), places.drop_null()
    holders = held.fields["shard"].take(at)
    ours = pc.equal(whole(there["shard"]), holders)
    found += _moved(there, holders, ours)
    there, at = there.filter(ours), at.filter(ours)  # what another shard holds is another row
    lowest = None
    if len(at):
        wrong, lowest = _vectors(there, held.vectors[at.to_numpy()], vectors)
        found += wrong
        for name, kind in columns.items():
            if kind is not None and name not in ("id", "shard"):
                found += _field(name, kind, there, held.fields[name].take(at), lite=lite)
    return Compared(rows=sent.num_rows, differences=tuple(found), lowest_cosine=lowest)


def _moved(rows: pa.Table, holders: pa.Array, ours: pa.Array) -> Iterator[Difference]:
    for i in np.flatnonzero(~ours.to_numpy(zero_copy_only=False)).tolist():
        yield Difference(key=rows["id"][i].as_py(), kind="shard", shard=rows["shard"][i].as_py(), held_by=holders[i].as_py() or "")


# ---- vectors ----


def _vectors(rows: pa.Table, found: np.ndarray, kind: VectorType) -> tuple[list[Difference], float]:
    return _sparse(rows, found) if is_sparse(found) else _dense(rows, found, kind)


def _sparse(rows: pa.Table, found: np.ndarray) -> tuple[list[Difference], float]:
    """Index by index and bit by bit: nothing rounds a sparse vector."""
    due, ids, shards = sparse_rows(rows["vector"]), rows["id"], rows["shard"]
    places = np.flatnonzero(found != due).tolist()
    alike = [_cosine_of(due[i], found[i]) for i in places]
    wrong = [
        Difference(key=ids[i].as_py(), kind="vector", shard=shards[i].as_py(), told=f"sparse, cosine {cosine:.6f}")
        for i, cosine in zip(places, alike, strict=True)
    ]
    return wrong, min(alike, default=1.0)


def _cosine_of(one: bytes, other: bytes) -> float:
    both = as_rows_of([one, other])
    (own, across), (_, others) = products(both, both).astype(float).tolist()
    return across / (own * others) ** 0.5 if own and others else 0.0


def _dense(rows: pa.Table, found: np.ndarray, kind: VectorType) -> tuple[list[Difference], float]:
    wanted = upsert_vectors(rows, found.shape[1])
    due = rounded(wanted, kind)
    to_due = cosines(found, due)
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(due, axis=1)
    right = (to_due >= LEAST_COSINE) & np.isclose(*lengths, rtol=LENGTHS)
    ids, shards = rows["id"], rows["shard"]
    wrong = [
        Difference(
            key=ids[int(i)].as_py(), kind="vector", shard=shards[int(i)].as_py(), told=_apart(to_due[i], lengths[0][i], lengths[1][i])
        )
        for i in np.flatnonzero(~right)
    ]
    return wrong, float(cosines(found, wanted).min())


def _apart(cosine: float, found: float, due: float) -> str:
    return f"cosine {cosine:.6f}" if not cosine >= LEAST_COSINE else f"length {found:.6g}, sealed {due:.6g}"


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Row by row; equal vectors have 1, zeros as well."""
    if not len(left):
        return np.empty(0)
    products = (left.astype(np.float64) * right).sum(axis=1)
    lengths = np.linalg.norm(left.astype(np.float64), axis=1) * np.linalg.norm(right.astype(np.float64), axis=1)
    same = (left == right).all(axis=1)
    found: np.ndarray = np.where(same, 1.0, products / np.where(lengths == 0, 1, lengths))
    return found


# ---- other fields ----


def _field(name: str, kind: FieldType, rows: pa.Table, found: pa.Array, *, lite: bool) -> Iterator[Difference]:
    wanted = whole(rows[name])
    for i in _unequal(kind, wanted, found, lite=lite):
        key, shard = rows["id"][i].as_py(), rows["shard"][i].as_py()
        if name == "text":
            yield Difference(key=key, kind="text", shard=shard)
        else:
            told = f"{_short(found[i].as_py())}, sealed {_short(wanted[i].as_py())}"
            yield Difference(key=key, kind="field", field=name, shard=shard, told=told)


def _unequal(kind: FieldType, wanted: pa.Array, found: pa.Array, *, lite: bool) -> list[int]:
    if kind in ELEMENTS:
        pairs = zip(wanted.to_pylist(), found.to_pylist(), strict=True)
        return [i for i, (due, there) in enumerate(pairs) if not _same_list(due, there, lite=lite)]
    differ = pc.xor(wanted.is_null(), found.is_null())
    values = pc.not_equal(wanted, found).fill_null(False)
    if kind == "double":
        values = pc.and_not(values, pc.and_(pc.is_nan(wanted), pc.is_nan(found)).fill_null(False))
    places: list[int] = np.flatnonzero(pc.or_(differ, values).to_numpy(zero_copy_only=False)).tolist()
    return places if kind != "json" else [i for i in places if not _same_text(wanted[i].as_py(), found[i].as_py(), lite=lite)]


def _same_list(due: list[Any] | None, there: list[Any] | None, *, lite: bool) -> bool:
    if due is None or there is None:
        return due is there or (lite and not due and not there)
    return len(due) == len(there) and all(a == b or (a != a and b != b) for a, b in zip(due, there, strict=True))  # noqa: PLR0124 - NaN


def _same_text(due: str | None, there: str | None, *, lite: bool) -> bool:
    """JSON by its values: a server may write it otherwise, and has null as a value where it has no other."""
    if lite and due is not None and there is not None and json.loads(due) == {WRAPPED: there}:  # an older version's, bare
        return True
    try:
        return same_json(json.loads(due or "null"), json.loads(there or "null"))
    except ValueError:
        return False


def same_json(due: Any, there: Any) -> bool:
    """Equal values; a whole number is the same with a point, a boolean is no number."""
    if isinstance(due, dict) and isinstance(there, dict):
        return due.keys() == there.keys() and all(same_json(value, there[key]) for key, value in due.items())
    if isinstance(due, list) and isinstance(there, list):
        return len(due) == len(there) and all(map(same_json, due, there))
    if isinstance(due, bool) or isinstance(there, bool):
        return due is there
    return bool(due == there) or (due != due and there != there)  # noqa: PLR0124 - NaN


def _short(value: object) -> str:
    told = str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return told[:SHOWN_CHARACTERS] + ("…" if len(told) > SHOWN_CHARACTERS else "")
