"""Metadata alone: rows that are there get other fields, and keep the vector that is not sent. The twin, Milvus Lite, and Milvus' protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymilvus.client.prepare import Prepare

from tasks.adapters.milvus.collection_schema import build_schema
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.protobuf import as_request
from tasks.adapters.milvus.row_dicts import as_rows
from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.domain.errors import Permanent
from tasks.domain.job.index import FullText
from tasks.domain.ports import Collection
from tests.builders.collections import DIM, part_of, spec_of, vectors_in
from tests.servers.merging_milvus import merging_process


@pytest.fixture(params=["memory", "lite", "lite rows", "server"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    with merging_process(tmp_path / "merging") as (uri, _):
        places = {"memory": MemoryTarget(f"memory://{tmp_path.name}"), "server": MilvusTarget(uri)}
        target = places.get(request.param) or MilvusTarget(str(tmp_path / "t.db"), columns=request.param == "lite")
        made = target.collection("c")
        made.ensure(spec_of("c"))
        yield made
        target.close()


def test_every_field_is_as_it_was_sent_and_the_vector_is_the_one_that_was_there(collection: Collection) -> None:
    before = part_of(["a", "b", "c"])
    collection.upsert(before)
    assert collection.updates_fields()
    nulls = {"url": [None, "new"], "year": [1, None], "tags": ['{"x": 1}', None]}
    sent = part_of(["a", "b"], shard="s2", seed=1, text=["other", "ü" * 40_000], **nulls)
    assert collection.upsert_fields(sent) == 1  # the text that is cut
    due = sent.set_column(1, sent.schema.field("vector"), before["vector"].slice(0, 2))
    assert collection.compare(due).differences == ()
    assert collection.compare(before.slice(2)).differences == ()
    assert (collection.count("s1"), collection.count("s2")) == (1, 2)


def test_a_key_that_is_not_there_makes_no_row_and_changes_no_other(collection: Collection) -> None:
    before = part_of(["a"])
    collection.upsert(before)
    with pytest.raises(Permanent):
        collection.upsert_fields(part_of(["a", "absent"], shard="s2", seed=1))
    assert collection.compare(before).differences == ()
    assert collection.count() == 1


def test_what_is_found_by_its_vector_is_found_as_before(collection: Collection) -> None:
    before = part_of([str(n) for n in range(30)])
    collection.upsert(before)
    collection.upsert_fields(part_of([str(n) for n in range(30)], seed=1, shard="s2"))
    collection.flush_and_index()
    assert collection.search(vectors_in(before)[7:8], 1)[0][0].id == "7"


def test_vectors_are_not_on_the_wire_and_a_server_before_2_6_2_is_sent_whole_rows(tmp_path: Path) -> None:
    rows = part_of([str(n) for n in range(200)])
    for version, able in (("v2.6.1", False), ("v2.6.2", True), ("v3.0.0", True)):
        with merging_process(tmp_path / version, version) as (uri, seen):
            target = MilvusTarget(uri)
            made = target.collection("c")
            made.ensure(spec_of("c"))
            made.upsert(rows)
            assert made.updates_fields() is able
            if able:
                made.upsert_fields(rows)
                assert "vector" in seen.fields[0] - seen.fields[1]
                assert 200 * DIM * 4 <= seen.sizes[0] - seen.sizes[1] < 200 * DIM * 4 + 200
            target.close()


def test_where_the_server_makes_a_field_of_others_or_places_rows_by_one_they_are_sent_whole(tmp_path: Path) -> None:
    target = MilvusTarget(str(tmp_path / "t.db"))
    for name, otherwise in (("worded", {"full_text": FullText()}), ("parted", {"partition_key": "url"})):
        made = target.collection(name)
        made.ensure(spec_of(name, **otherwise))
        assert not made.updates_fields()
    target.close()


def test_both_ways_into_milvus_are_the_same_request() -> None:
    spec, part = spec_of("c"), part_of(["a", "bü"])
    columns = {name: kind for name, kind in columns_of(spec).items() if kind is not None}
    fields = build_schema(spec).to_dict()["fields"]
    nullable = {each["name"] for each in fields if each.get("nullable")}
    expected = Prepare.row_upsert_param("c", as_rows(part, columns, DIM), "", fields, partial_update=True)
    request = as_request(part, columns, DIM, collection="c", nullable=nullable)
    assert request.partial_update
    assert {each.field_name: each.SerializeToString(deterministic=True) for each in request.fields_data} == {
        each.field_name: each.SerializeToString(deterministic=True) for each in expected.fields_data
    }


def test_the_vector_that_is_not_sent_is_not_even_looked_at(collection: Collection) -> None:
    before = part_of(["a"])
    collection.upsert(before)
    collection.upsert_fields(part_of(["a"], vector=[np.full(DIM, np.nan, np.float32)]))
    assert np.isfinite(collection.fetch(["a"])[1]).all()
