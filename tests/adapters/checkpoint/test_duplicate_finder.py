"""Who owns a key that comes in several shards: the same answer as by hand, whatever the order of the shards' arrival."""

from __future__ import annotations

import io
import tempfile
from collections import defaultdict
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.checkpoint.duplicate_finder import KEYS, DuplicateFinder
from tasks.domain.errors import Permanent, Transient

Shards = list[list[str]]  # a shard's keys; each is its own part


def file_of(keys: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array(keys, pa.string()), pa.array(range(len(keys)), pa.int32())], schema=KEYS), buffer)
    return buffer.getvalue()


def by_hand(shards: Shards, *, last: bool, before: list[str]) -> tuple[dict[str, int], set[tuple[int, str]]]:
    """The owners of keys that are or were in several shards, and what the others lose."""
    holders: dict[str, list[int]] = defaultdict(list)
    for number, keys in enumerate(shards):
        for key in keys:
            holders[key].append(number)
    owners = {key: max(some) if last else min(some) for key, some in holders.items() if len(some) > 1 or key in before}
    return owners, {(number, key) for key in owners for number in holders[key] if number != owners[key]}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "'", '"', "ü", "\x00", ""]), unique=True, max_size=6), max_size=5),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "z"]), unique=True),
)
def test_each_key_has_one_owner_and_every_other_shard_loses_it(shards: Shards, last: bool, before: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, DuplicateFinder(Path(folder)) as table:
        for number in reversed(range(len(shards))):
            table.add(number, file_of(shards[number]))
        table.remember(file_of(before))
        owners, lost = by_hand(shards, last=last, before=before)
        assert table.assign_owners(last=last) == len(lost)
        assert {key: shard for shard, _, keys in table.owners() for key in keys} == owners
        assert {(shard, key) for shard, _, keys in table.lost() for key in keys} == lost
        assert all(shards[shard][part] == key for shard, part, keys in table.owners() for key in keys)
        written = pq.read_table(io.BytesIO(table.write_lost([f"s{n}" for n in range(len(shards))])))
        assert {(row["shard"], row["id"]) for row in written.to_pylist()} == {(f"s{number}", key) for number, key in lost}
        assert len(table.examples(2)) == min(2, len({number for number, _ in lost}))


def test_a_corpus_without_shards_has_no_owners(tmp_path: Path) -> None:
    with DuplicateFinder(tmp_path) as table:
        assert table.assign_owners(last=False) == 0
        assert list(table.owners()) == []


def test_what_the_disk_refuses_is_told_as_such_and_all_else_is_not(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no room left on the disk of"), DuplicateFinder(tmp_path / "full"):
        raise duckdb.IOException('IO Error: Could not write file "/x/keys.duckdb": No space left on device')
    with pytest.raises(Transient, match="input/output error"), DuplicateFinder(tmp_path / "broken"):
        raise duckdb.IOException('IO Error: Could not read from file "/x": Input/output error\nmore')
    with pytest.raises(Permanent, match="keys cannot be compared: Out of Memory Error"), DuplicateFinder(tmp_path / "small"):
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block of size 256.0 KiB")
