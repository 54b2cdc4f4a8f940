"""What a collection holds of rows is compared with what an upsert makes: on the twin, on Milvus Lite and on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.milvus.filters import keys_in_pages
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.row_dicts import as_rows
from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.rows.comparison import same_json
from tasks.domain.ports import Collection
from tasks.domain.target.difference import Compared
from tests.builders.collections import ARRAYS, DIM, FIELDS, LISTS, NASTY, Open, part_of, spec_of, vectors_in

ALL = (*FIELDS, *ARRAYS)
KEYS = list("wxyz")
VALUES = {
    "url": ["u", None, "", "ü" * 40_000],
    "year": [1, None, -(2**62), 0],
    "price": [0.1, None, float("nan"), -1e300],
    "fresh": [True, None, False, True],
    "tags": ['{"n": [1, {"deep": "ü"}], "f": 1.0, "t": true}', None, "[1, 2.5]", '"bare"'],
    "text": ["t", "", "x" * 70_000, "日本"],
    **LISTS,
}


def rows_of(*, shard: str = "s1", **changes: list) -> pa.Table:
    return part_of(KEYS, fields=ALL, shard=shard, **(VALUES | changes))


@pytest.fixture
def filled(opening: Open, name: str, monkeypatch: pytest.MonkeyPatch) -> Collection:
    made = opening(name)
    made.ensure(spec_of(name, fields=ALL))
    made.upsert(rows_of())
    if isinstance(made, MilvusCollection) and not made._columns:  # pymilvus fails at what Lite makes of a bare text
        monkeypatch.setitem(VALUES, "tags", [*VALUES["tags"][:3], '{"bare": 7}'])
        made.upsert(rows_of())
    return made


def kinds(found: Compared) -> set[tuple[str, str]]:
    return {(each.key, each.named) for each in found.differences}


def insert(made: MilvusCollection, rows: pa.Table) -> None:
    """Past the upsert: a server keeps what is there of the keys."""
    spec = made.describe()
    assert spec is not None
    sent, _ = made._as_sent(rows, spec)
    made._connection.client.insert(made.name, as_rows(sent, columns_of(spec), DIM))


def test_what_was_upserted_is_no_difference_whatever_it_holds(filled):
    found = filled.compare(rows_of())
    assert (found.differences, found.rows) == ((), 4)
    assert found.lowest_cosine == 1.0


def test_nasty_texts_are_no_difference(collection):
    part = part_of(NASTY, url=NASTY, text=NASTY, tags=[json.dumps({text: text}) for text in NASTY])
    collection.upsert(part)
    assert collection.compare(part).differences == ()


def test_no_rows_have_no_differences(filled):
    assert filled.compare(rows_of().slice(0, 0)) == Compared(rows=0)


OTHERWISE = [
    ("url", ["v", "not null", "x", "ü" * 32_766]),
    ("year", [2, 7, -(2**62) + 1, -1]),
    ("price", [0.1 + 1e-15, 0.5, 0.0, -1.1e300]),
    ("fresh", [False, True, True, False]),
    ("tags", ['{"n": [1, {"deep": "u"}], "f": 1.0, "t": true}', "[]", "[1, 2]", '{"bar": 1}']),
    ("labels", [["a"], ["x"], ["y"], ["b", "ü b", "x"]]),
    ("sizes", [[1, -(2**62) + 1], [1], [0], [7, 7]]),
    ("shares", [[0.5], [0.5], [0.26], [0.0]]),
    ("flags", [[True, True], [False], [True], [False]]),
]


@pytest.mark.parametrize(("field", "values"), OTHERWISE, ids=[field for field, _ in OTHERWISE])
def test_another_value_of_any_field_is_found_in_every_row(filled, field, values):
    filled.upsert(rows_of(**{field: values}))
    assert kinds(filled.compare(rows_of())) == {(key, field) for key in KEYS}


def test_null_and_a_value_are_told_apart(filled):
    """But for what a server without null has in its place."""
    filled.upsert(rows_of(url=["u", "v", None, VALUES["url"][3]], year=[None, 1, None, None], price=[None, 1.0, 1.0, 1.0]))
    found = kinds(filled.compare(rows_of()))
    assert found >= {("x", "url"), *((key, "year") for key in KEYS), *((key, "price") for key in KEYS)}


def test_another_text_is_found_and_its_cut_is_not(filled):
    filled.upsert(rows_of(text=["", "u", "x" * 65_534, "日"]))
    assert kinds(filled.compare(rows_of())) == {(key, "text") for key in KEYS}


def test_another_vector_is_found_in_direction_length_and_zero(filled):
    vectors = vectors_in(rows_of())
    other = [vectors[0], vectors[1] * 2, np.zeros(DIM, np.float32), -vectors[3]]
    filled.upsert(rows_of(vector=other))
    found = filled.compare(rows_of())
    assert kinds(found) == {("x", "vector"), ("y", "vector"), ("z", "vector")}
    assert [each.told.split()[0] for each in found.differences] == ["length", "cosine", "cosine"]
    assert found.lowest_cosine == pytest.approx(-1)


def test_absent_rows_and_rows_of_another_shard_are_found(filled):
    filled.upsert(rows_of(shard="s2").slice(1, 1))
    filled.delete_keys(["y", "never there"])
    found = filled.compare(rows_of())
    assert kinds(found) == {("x", "shard"), ("y", "absent")}
    assert [each.held_by for each in found.differences if each.kind == "shard"] == ["s2"]
    assert filled.count() == 3


def test_a_key_that_was_inserted_twice_is_found(filled):
    if not isinstance(filled, MilvusCollection) or filled._connection.lite:
        pytest.skip("a server alone keeps two rows of one key")
    insert(filled, rows_of(shard="s9").slice(1, 2))
    found = filled.compare(rows_of())
    assert {key for key, kind in kinds(found) if kind == "doubled"} == {"x", "y"}
    assert {kind for _, kind in kinds(found)} <= {"doubled", "shard"}, found
    assert all(each.kind != "doubled" for each in filled.compare(rows_of(), doubled=False).differences)
    assert sorted(filled.shards_of(KEYS)) == sorted(filled.fetch(KEYS)[0]) == KEYS
    filled.upsert(rows_of())
    assert filled.compare(rows_of()).differences == ()


def test_batches_are_bounded_and_an_answer_that_is_too_large_is_asked_for_in_halves(filled, monkeypatch):
    if not isinstance(filled, MilvusCollection):
        pytest.skip("the twin answers whatever it holds")
    from tasks.domain.errors import Permanent  # noqa: PLC0415

    stored, asked = filled._stored, []

    def narrow(keys, spec):
        asked.append(len(keys))
        if len(keys) > 1:
            raise Permanent("larger than max")
        return stored(keys, spec)

    monkeypatch.setattr(filled, "_stored", narrow)
    assert filled.compare(rows_of()).differences == ()
    assert asked.count(1) == 4


def test_rows_of_unknown_shards_are_named_with_their_shards_whatever_these_are(opening, name, monkeypatch):
    monkeypatch.setattr("tasks.adapters.milvus.filters.beyond.__kwdefaults__", {"at_once": 3})
    made = opening(name)
    made.ensure(spec_of(name))
    for number in range(8):
        made.upsert(part_of([f"k{number}"], shard=f"s{number}"))
    made.upsert(part_of(['a"', "b"], shard='"odd'))
    known = [f"s{number}" for number in range(8) if number != 4]
    assert set(made.strangers(known)) == {("k4", "s4"), ('a"', '"odd'), ("b", '"odd')}
    assert len(list(made.strangers([]))) == made.count_beyond([]) == 10
    assert (made.count_beyond(known), made.count_beyond([*known, "s4"])) == (3, 2)
    assert list(made.strangers([*known, "s4", '"odd', "not there"])) == []


def test_strangers_come_in_pages_each_once(collection, monkeypatch):
    monkeypatch.setattr("tasks.adapters.milvus.filters.keys_in_pages.__defaults__", (10,))
    collection.upsert(part_of([f"k{i}" for i in range(95)], shard="s9"))
    collection.upsert(part_of(["ours"], shard="s1"))
    found = list(collection.strangers(["s1"]))
    assert sorted(found) == sorted((f"k{i}", "s9") for i in range(95))


def test_a_page_of_doubled_rows_hides_no_key():
    """2.3.5 takes a page of rows first, and leaves each key once then."""
    rows = [f"k{i:03}" for i in range(40) for _ in range(3)]

    def within(where: str) -> list[str]:
        keys = rows
        for test in where.split(" and ")[1:]:
            operator, border = test.replace("(", "").replace(")", "").removeprefix("id ").split(" ")
            holds: Callable[[str, str], bool] = str.__gt__ if operator == ">" else str.__le__
            keys = [key for key in keys if holds(key, json.loads(border))]
        return keys

    def query(where: str, page: int) -> list[str]:
        return list(dict.fromkeys(within(where)[:page]))

    assert sorted(keys_in_pages(query, "all", 16, count=lambda where: len(within(where)))) == sorted(set(rows))


@pytest.mark.parametrize(
    ("due", "there", "same"), [(1, 1.0, True), (1, True, False), ({"a": [None]}, {"a": [0]}, False), ([1], [1, 1], False)]
)
def test_json_is_compared_by_value(due, there, same):
    assert same_json(due, there) is same
