"""Parts: what goes into a Parquet part comes out, says what it is, and is never half believed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.checkpoint.part_files import PartMeta, part_of, part_vectors, read_part, sha256_of_part, vector_column, write_part
from tasks.adapters.rows.row_schema import part_schema
from tasks.domain.errors import Newer, Permanent
from tasks.domain.shards.seal import Quarantined
from tests.builders.checkpoints import FIELDS, META, make_table


def written(folder: Path, table: pa.Table, meta: PartMeta = META) -> bytes:
    path = folder / "part.parquet"
    write_part(path, table, meta)
    return path.read_bytes()


def address(array: pa.Array) -> int:
    return array.buffers()[-1].address + array.offset * 4


@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_rows_and_account_come_back(tmp_path: Path, rows: int) -> None:
    table = make_table(rows)
    back, meta = read_part(written(tmp_path, table))
    assert meta == META
    assert back.schema.equals(part_schema(FIELDS, store_text=True))
    assert back.equals(table)


def test_a_part_tells_what_a_seal_says_of_it(tmp_path: Path) -> None:
    data = written(tmp_path, make_table(7))
    part = part_of("some/key", data, *read_part(data))
    assert (part.key, part.first, part.stop, part.rows, part.bytes) == ("some/key", 100, 1_101, 7, len(data))
    assert part.sha256 == sha256_of_part(data)
    assert (part.quarantined, part.stats) == (META.quarantined, META.stats)


def test_a_part_of_a_newer_version_is_refused_as_newer(tmp_path: Path) -> None:
    newer = META.model_dump_json().replace('"format_version":2', '"format_version":7').encode()
    pq.write_table(make_table(3).replace_schema_metadata({b"kitestring": newer}), tmp_path / "newer.parquet")
    with pytest.raises(Newer, match=r"some/key: written by a newer Kitestring \(format 7"):
        read_part((tmp_path / "newer.parquet").read_bytes(), "some/key")


def test_ten_thousand_quarantined_rows_fit(tmp_path: Path) -> None:
    rows = tuple(Quarantined(row=n, id=f"key {n}", reason="not an image: " + "x" * 200) for n in range(10_000))
    meta = META.model_copy(update={"quarantined": rows})
    assert read_part(written(tmp_path, make_table(0), meta))[1].quarantined == rows


def test_importers_of_older_servers_can_read_the_file(tmp_path: Path) -> None:
    group = pq.ParquetFile(pa.BufferReader(written(tmp_path, make_table(2_000)))).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for name in ("id", "vector.list.element"):
        assert set(columns[name].encodings) <= {"PLAIN", "RLE"}, name
        assert not columns[name].has_dictionary_page
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["shard"].has_dictionary_page
    assert pa.types.is_list(pq.read_schema(pa.BufferReader(written(tmp_path, make_table(1)))).field("vector").type)


def test_vectors_are_the_same_memory_going_in_and_coming_out() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    column = vector_column(array)
    assert address(column.values) == array.ctypes.data
    table = pa.table({"vector": column})
    assert part_vectors(table).ctypes.data == array.ctypes.data
    assert part_vectors(table.slice(1)).ctypes.data == array[1:].ctypes.data
    np.testing.assert_array_equal(part_vectors(table.slice(1, 1)), array[1:2])


@given(rows=st.integers(0, 20), dim=st.integers(1, 5), cut=st.integers(0, 20), stride=st.integers(1, 3))
def test_vectors_survive_slices_strides_and_pieces(rows: int, dim: int, cut: int, stride: int) -> None:
    array = np.random.default_rng(1).standard_normal((rows * stride, dim)).astype(np.float32)[::stride]
    table = pa.table({"vector": vector_column(array)})
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    got = part_vectors(pieces)
    assert got.shape == (array.shape if rows else (0, 0))
    np.testing.assert_array_equal(got.reshape(array.shape), array)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.0, 2.0], None], pa.list_(pa.float32())),
        pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32())),
        pa.array([[1.0, None], [1.0, 2.0]], pa.list_(pa.float32())),
        pa.array([[1.0], [2.0]], pa.list_(pa.float64())),
    ],
    ids=["missing", "of two lengths", "a null inside", "of doubles"],
)
def test_vectors_that_are_not_vectors_are_refused(column: pa.Array) -> None:
    with pytest.raises(Permanent, match="vectors of a part are missing, or differ in length"):
        part_vectors(pa.table({"vector": column}))


def test_more_values_than_a_column_holds_are_refused() -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**21, 1024), (0, 0))
    with pytest.raises(Permanent, match=r"compute\.unsaved_rows"):
        vector_column(huge)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "head only"])
def test_what_is_no_part_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    data = written(tmp_path, make_table(100))
    broken = {"cut": data[:-100], "empty": b"", "text": b"hello" * 100, "head only": data[: len(data) // 2]}[damage]
    with pytest.raises(Permanent, match=r"^the/key: not a Parquet file"):
        read_part(broken, "the/key")


def test_a_flipped_bit_in_a_page_is_found(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path, make_table(2_000)))
    data[len(data) // 2] ^= 1
    with pytest.raises(Permanent, match="the/key"):
        read_part(bytes(data), "the/key")


def test_somebody_elses_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(make_table(3), tmp_path / "x")
    with pytest.raises(Permanent, match="not a part of Kitestring"):
        read_part((tmp_path / "x").read_bytes(), "the/key")


def test_a_part_without_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="without the columns"):
        read_part(written(tmp_path, pa.table({"id": ["a"]})), "the/key")


FILL = """
import resource, signal, sys
from pathlib import Path
from tests.builders.checkpoints import META, make_table
from tasks.adapters.checkpoint.part_files import write_part
from tasks.domain.errors import Newer, Permanent
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_part(Path(sys.argv[1]), make_table(10_000), META)
except Permanent as error:
    print(error)
"""


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path / "part")], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{tmp_path}/part: ")
