"""A sample is from everywhere in a corpus, the same every time, and bounded."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.sampling import Effort, Sampler, SourceSample, weight_of
from tasks.domain.job.job import Job
from tests.builders.source_rows import make_job, spans_of, write_csv
from tests.servers.s3 import S3Bucket


def take(job: Job, effort: Effort | None = None) -> tuple[SourceSample, int]:
    """A sample, and the weight of the whole."""
    spans = spans_of(job)
    whole = sum(map(weight_of, spans))
    return Sampler(open_source(job.source, rows=job.shards.rows), (), job.target, effort or Effort()).take(spans, whole), whole


def seen(sample: SourceSample, column: str = "id") -> list[str]:
    return [value for place in sample.rows for value in place.column(column).to_pylist()]


def write_lines(path: Path, rows: int, width: int = 100) -> bytes:
    random = Random(7)
    lines = b"".join(
        b'{"id": "%d", "text": "%s"}\n' % (row, random.randbytes((width + row % 7) // 2).hex().encode()) for row in range(rows)
    )
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return lines


def parquet(folder: Path, rows: int, *, row_group: int) -> Job:
    folder.mkdir(exist_ok=True)
    table = pa.table({"id": [f"{row}" for row in range(rows)], "text": [f"text of {row}" for row in range(rows)]})
    pq.write_table(table, folder / "a.parquet", row_group_size=row_group)
    return make_job("parquet", folder, rows=row_group, id="id", text=["text"])


def test_rows_are_from_everywhere_and_the_same_every_time(tmp_path: Path) -> None:
    job = parquet(tmp_path / "rows", 16_000, row_group=1_000)
    sample, whole = take(job)
    assert whole == 16_000
    rows = [int(row) for row in seen(sample)]
    assert len(rows) == len(set(rows)) == 16 * 64
    assert {row // 1_000 for row in rows} == set(range(16))
    assert seen(take(job)[0]) == seen(sample)


def test_what_is_small_is_seen_whole_and_nothing_twice(tmp_path: Path) -> None:
    sample, _ = take(parquet(tmp_path / "rows", 40, row_group=40))
    assert sorted(map(int, seen(sample))) == list(range(40))
    assert len(sample.rows) == 16


def test_a_large_file_is_looked_at_more_often_than_small_ones(tmp_path: Path) -> None:
    job = parquet(tmp_path / "rows", 9_000, row_group=1_000)
    for number in range(50):
        pq.write_table(pa.table({"id": [f"small-{number}"], "text": ["one"]}), tmp_path / "rows" / f"b{number:02}.parquet")
    rows = seen(take(job)[0])
    assert len([row for row in rows if row.startswith("small")]) <= 1


def test_reading_stops_at_its_bounds_and_was_everywhere_by_then(tmp_path: Path) -> None:
    job = parquet(tmp_path / "rows", 16_000, row_group=1_000)
    few = take(job, Effort(bytes=50_000))[0]
    rows = [int(row) for row in seen(few)]
    assert few.read < 200_000
    assert min(rows) < 8_000 < max(rows)
    assert len(take(job, Effort(seconds=0))[0].rows) == 1


def test_lines_are_counted_by_the_ranges_that_were_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 60_000)
    sample, whole = take(make_job("jsonl", tmp_path / "a.jsonl", rows=5_000, id="id"))
    mean = sum(density for [density] in sample.density) / len(sample.density)
    assert mean * whole == pytest.approx(60_000, rel=0.02)
    assert sample.covered <= 16 * (128 << 10) < whole


def test_a_short_file_of_lines_is_counted_exactly(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 500)
    sample, whole = take(make_job("jsonl", tmp_path / "a.jsonl", id="id"))
    assert (sample.counted, sample.covered) == (500, whole)


@pytest.mark.parametrize("rows", [300, 40_000])
def test_files_that_are_read_from_their_beginning_alone_tell_rows_by_their_head(tmp_path: Path, rows: int) -> None:
    """CSV with newlines in its cells, and compressed lines; a part of the large ones, the small ones whole."""
    write_csv(tmp_path / "a.csv", rows)
    write_lines(tmp_path / "b.jsonl.gz", rows)
    for job in (make_job("csv", tmp_path / "a.csv", id="id"), make_job("jsonl", tmp_path / "b.jsonl.gz", id="id")):
        sample, whole = take(job)
        assert sample.counted / sample.covered * whole == pytest.approx(rows, rel=0.02)
        assert (sample.covered == whole) is (rows == 300 or whole < 1 << 20)


def test_tars_tell_rows_by_their_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(200):
            member = tarfile.TarInfo(f"{number:03}.jpg")
            member.size = 3_000
            tar.addfile(member, io.BytesIO(b"\xff" * 3_000))
    sample, whole = take(make_job("webdataset", tmp_path / "a.tar"))
    assert sample.counted / sample.covered * whole == pytest.approx(200, rel=0.2)


def test_picture_files_are_known_by_their_listing(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"x" * number)
    sample, whole = take(make_job("images", tmp_path))
    assert whole == 300
    assert seen(sample) == [f"{number:03}.jpg" for number in range(300)]
    assert [sum(place) for place in sample.file_bytes] == [sum(range(300))]


def test_a_place_that_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 30_000)
    write_lines(tmp_path / "b.jsonl.gz", 4_000, width=200)
    (tmp_path / "b.jsonl.gz").write_bytes((tmp_path / "b.jsonl.gz").read_bytes()[:-20])
    sample, _ = take(make_job("jsonl", tmp_path, id="id"))
    assert len(sample.faults) == 1
    assert "b.jsonl.gz" in sample.faults[0]
    assert len(sample.rows) > 10


def test_an_object_store_is_sampled_as_files_are(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    s3_bucket.put("rows/a.jsonl", write_lines(tmp_path / "a.jsonl", 20_000))
    write_lines(tmp_path / "b.jsonl.gz", 20_000)
    s3_bucket.put("packed/b.jsonl.gz", (tmp_path / "b.jsonl.gz").read_bytes())
    for folder in ("rows", "packed"):
        sample, whole = take(make_job("jsonl", f"{s3_bucket.url}/{folder}/", id="id"))
        assert not sample.faults
        assert sample.counted / sample.covered * whole == pytest.approx(20_000, rel=0.05)
