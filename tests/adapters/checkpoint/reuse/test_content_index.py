"""A digest leads to the vector of its row, whichever part of whichever shard that is in, and to none where anything is not as sealed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import PartMeta, part_of, part_vectors, write_part
from tasks.adapters.checkpoint.reuse import content_index, donor_parts
from tasks.adapters.checkpoint.reuse.content_index import ContentIndex
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.adapters.rows.content_digests import content_digests, known_elsewhere
from tasks.domain.digest import digest
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.seal import Part, Quarantined, Seal
from tasks.domain.shards.shard import FileVersion
from tests.builders.checkpoints import IDENTITY, make_table, seal_of

DIM = 16


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(MemoryStore(str(tmp_path)), "pydocs", IDENTITY.fingerprint)


class Donor:
    """A sealed shard of so many rows in parts of ten; row 3 is in quarantine."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, name: str, rows: int = 30) -> None:
        self.checkpoint, self.folder, self.shard = checkpoint, folder, digest(name)
        self.table = make_table(rows)
        self.texts = [f"{name} {row}" for row in range(rows)]
        self.digests = content_digests(pa.record_batch({"text": self.texts}), {})
        file = DigestFile(folder / "digests")
        file.add(pa.record_batch({"row": range(rows), "id": self.table["id"].combine_chunks()}), self.digests)
        parts = [self.put([row for row in range(first, first + 10) if row != 3], first, first + 10) for first in range(0, rows, 10)]
        self.seal: Seal = seal_of(*parts, shard=self.shard).model_copy(update={"digests": file.keep(checkpoint, self.shard, "a")})
        checkpoint.seal(self.seal)

    def put(self, rows: list[int], first: int, stop: int, attempt: str = "a") -> Part:
        aside = tuple(
            Quarantined(row=row, id=f"id {row}", reason="not finite") for row in range(first, stop) if row == 3 and row not in rows
        )
        meta, table = PartMeta(shard=self.shard, first=first, stop=stop, quarantined=aside), self.table.take(rows)
        key = self.checkpoint.layout.part(self.shard, attempt, first, stop)
        write_part(self.folder / "part", table, meta)
        data = (self.folder / "part").read_bytes()
        self.checkpoint.store.write(key, data)
        return part_of(key, data, table, meta)


def asked(index: ContentIndex, digests: pa.Array) -> list[list[float] | None]:
    found: list[list[float] | None] = index.vectors_of(digests).to_pylist()
    return found


def unknown(index: ContentIndex, digests: pa.Array) -> list[int]:
    return [row for row, vector in enumerate(asked(index, digests)) if vector is None]


def opened(checkpoint: Checkpoint, folder: Path, *donors: Donor, **bounds: int) -> ContentIndex:
    scratch = folder / "index"
    scratch.mkdir()
    return ContentIndex(checkpoint, [donor.shard for donor in donors], scratch, dim=DIM, **bounds)


def test_every_row_of_every_part_is_found_in_any_order(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one, two = Donor(checkpoint, tmp_path, "one"), Donor(checkpoint, tmp_path, "two", 50)
    index = opened(checkpoint, tmp_path, one, two)
    order = np.random.default_rng(1).permutation(80)
    found = asked(index, pa.chunked_array([one.digests, two.digests]).combine_chunks().take(order))
    true = [*part_vectors(one.table).tolist(), *part_vectors(two.table).tolist()]
    assert found == [None if place in {3, 33} else true[place] for place in order.tolist()]
    assert asked(index, content_digests(pa.record_batch({"text": ["nowhere", "one 5"]}), {})) == [None, true[5]]
    assert asked(index, pa.nulls(2, pa.binary(16))) == [None, None]


def test_a_row_that_a_retry_recovered_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    donor = Donor(checkpoint, tmp_path, "one")
    retried = donor.put([3], 3, 4, attempt="retry-b")
    told = {"shard": donor.shard, "number": 1, "run": "b", "quarantined": (), "seconds": 1.0, "amended_at": "2026-11-22T00:00:00+00:00"}
    checkpoint.amend(Amendment(**told, parts=(retried,), recovered=(3,)))
    assert None not in asked(opened(checkpoint, tmp_path, donor), donor.digests)


def test_no_vector_is_taken_from_what_is_not_as_it_was_sealed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    donor, store = Donor(checkpoint, tmp_path, "one"), checkpoint.store
    kept = store.read(donor.seal.parts[1].key) or b""
    index = opened(checkpoint, tmp_path, donor)
    store.write(donor.seal.parts[1].key, kept[:-9] + b"x" + kept[-8:])
    assert unknown(index, donor.digests) == [3, *range(10, 20)]
    store.write(donor.seal.parts[1].key, kept)
    store.write(checkpoint.layout.digests(donor.shard, "a"), b"other")
    (tmp_path / "again").mkdir()
    assert opened(checkpoint, tmp_path / "again", donor).rows == 0


def test_keys_in_another_order_than_the_digests_say_are_no_donor(checkpoint: Checkpoint, tmp_path: Path) -> None:
    donor = Donor(checkpoint, tmp_path, "one")
    swapped = donor.put([*range(11, 20), 10], 10, 20, attempt="b")
    checkpoint.store.delete(checkpoint.layout.seal(donor.shard))
    checkpoint.seal(donor.seal.model_copy(update={"parts": (donor.seal.parts[0], swapped, donor.seal.parts[2])}))
    assert unknown(opened(checkpoint, tmp_path, donor), donor.digests) == [3, *range(10, 20)]


def test_scratch_is_bounded_and_so_is_how_often_a_part_is_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    donor = Donor(checkpoint, tmp_path, "one")
    index = opened(checkpoint, tmp_path, donor, most_bytes=10 * DIM * 4)
    answers = [unknown(index, donor.digests) for _ in range(donor_parts.MOST_READS + 1)]
    assert answers[:-1] == [[3]] * donor_parts.MOST_READS
    assert len(answers[-1]) > 1
    assert len(list((tmp_path / "index").glob("donor-*"))) == 1


def test_so_many_rows_are_looked_through_and_the_best_donors_first(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Donor(checkpoint, tmp_path, "one"), Donor(checkpoint, tmp_path, "two")
    monkeypatch.setattr(content_index, "MOST_INDEXED", 30)
    index = opened(checkpoint, tmp_path, two, one)
    assert unknown(index, one.digests) == [*range(30)]
    assert unknown(index, two.digests) == [3]


def test_a_picture_is_its_bytes_or_the_version_of_its_file() -> None:
    def of(image: bytes | None, place: str | None, version: str = "1") -> bytes | None:
        file = FileVersion(path="/a/b.png", name="b.png", size=9, version=version)
        rows = pa.record_batch({"image": pa.array([image], pa.large_binary()), "image_uri": pa.array([place], pa.string())})
        found: bytes | None = content_digests(rows, {file.path: file})[0].as_py()
        return found

    known = {of(b"x", None), of(b"y", None), of(None, "/a/b.png"), of(None, "/a/b.png", "2")}
    assert len(known) == 4
    assert None not in known
    assert of(b"x", "/a/b.png") == of(b"x", None)
    assert of(None, "/elsewhere.png") is None
    assert content_digests(pa.record_batch({"text": ["x"]}), {})[0].as_py() not in known


def test_a_file_that_is_told_by_its_time_is_known_at_its_place_and_on_its_machine_alone() -> None:
    """Two folders may hold pictures of one name, size and time; what S3 calls a version tells of the content."""

    def of(root: str) -> tuple[bytes, bytes | None]:
        file = FileVersion(path=f"{root}/b.bmp", name="b.bmp", size=9, version="1" if root.startswith("/") else "ab" * 16)
        rows = pa.record_batch({"image": pa.array([None], pa.large_binary()), "image_uri": pa.array([file.path], pa.string())})
        found = content_digests(rows, {file.path: file})
        return found[0].as_py(), known_elsewhere(found, rows, {file.path: file})[0].as_py()

    (monday, shared), (tuesday, _) = of("/monday"), of("/tuesday")
    assert (monday != tuesday, shared) == (True, None)
    assert {*of("s3://a"), *of("s3://b")} == {of("s3://a")[0]}
    held = pa.record_batch({"image": pa.array([b"x"], pa.large_binary()), "image_uri": pa.array(["/monday/b.bmp"], pa.string())})
    assert known_elsewhere(content_digests(held, {}), held, {})[0].as_py() is not None
