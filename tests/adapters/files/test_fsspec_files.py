"""A store behind fsspec that does not answer: a fault on the way is no damage of the file, whatever kind of error it is."""

from __future__ import annotations

import errno
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from http.client import IncompleteRead
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem

from tasks.adapters.files.access import check_unchanged, list_files
from tasks.adapters.rows.builder import RowMaker
from tasks.adapters.rows.content import key_of_file
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput, Permanent, Transient
from tests.builders.source_rows import make_job, raw, shard_of, spans_of


class StoreError(Exception):
    """As aiohttp's and gcsfs' own: no OSError."""


StoreError.__module__ = "gcsfs.retry"
FAULTS = [TimeoutError(), FSTimeoutError("slow"), OSError("Forbidden, or so"), OSError(errno.ECONNRESET, "reset"), StoreError("502")]
FAULTS += [IncompleteRead(b"half")]
KINDS = [f"{type(fault).__name__} {fault}".strip() for fault in FAULTS]


class Weather:
    """What the store does: raises `fault` at the next read, listing or look where it is set."""

    fault: Exception | None = None

    def strike(self) -> None:
        if self.fault:
            raise self.fault


weather = Weather()


class Flaky(MemoryFileSystem):
    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own form
    pseudo_dirs = [""]  # noqa: RUF012

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:
        weather.strike()
        return super().ls(path, detail=detail, **how)

    def info(self, path: str, **how: Any) -> Any:
        weather.strike()
        return super().info(path, **how)

    def _open(self, path: str, mode: str = "rb", **how: Any) -> Any:
        opened = super()._open(path, mode, **how)
        return Reads(opened.getvalue()) if mode == "rb" else opened


class Reads(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        weather.strike()
        return super().read(size)


class Remembers(MemoryFileSystem):
    """As gcsfs and adlfs do: a folder is listed once, and what it held then is told until the cache is thrown away."""

    protocol = "remembers"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own form
    pseudo_dirs = [""]  # noqa: RUF012
    listed: dict[str, Any] = {}  # noqa: RUF012

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:
        assert detail
        return self.listed.setdefault(path, super().ls(path, detail=True, **how))

    def info(self, path: str, **how: Any) -> Any:
        return self.listed.setdefault(f"info {path}", super().info(path, **how))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed.clear()


@pytest.fixture(autouse=True)
def _flaky() -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    yield
    weather.fault = None
    Flaky.store.clear()


def put(name: str, data: bytes) -> str:
    with fsspec.open(f"flaky:///{name}", "wb") as file:
        file.write(data)
    return f"flaky:///{name}"


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [str(n) for n in range(2_000)], "text": [f"text {n}" for n in range(2_000)]}), out, row_group_size=500)
    return out.getvalue()


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        info = tarfile.TarInfo("a.txt")
        info.size = 4
        made.addfile(info, io.BytesIO(b"text"))
    return out.getvalue()


LINES = b"".join(json.dumps({"id": str(n), "text": "some text"}).encode() + b"\n" for n in range(100))
SOURCES = {
    "a.parquet": ("parquet", parquet(), {"id": "id"}),
    "a.jsonl": ("jsonl", LINES, {"id": "id"}),
    "a.jsonl.gz": ("jsonl", gzip.compress(LINES), {"id": "id"}),
    "a.csv": ("csv", b"id,text\n1,one\n2,two\n", {"id": "id"}),
    "a.txt": ("text-files", b"one", {}),
    "a.tar": ("webdataset", tar(), {"embed": "text"}),
}


@pytest.mark.parametrize("fault", FAULTS, ids=KINDS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_cannot_be_reached_may_be_read_another_time(name: str, fault: Exception) -> None:
    kind, data, columns = SOURCES[name]
    job = make_job(kind, put(name, data), **columns)
    whole = raw(job)
    (span, *_) = spans_of(job)
    source = open_source(job.source, rows=job.shards.rows)
    weather.fault = fault
    for look in (source.inspect, lambda: list(source.spans()), lambda: list(source.read(shard_of(span)))):
        with pytest.raises(Transient, match=name.replace(".", r"\.")):
            look()
    weather.fault = None
    assert raw(job) == whole


@pytest.mark.parametrize("fault", FAULTS, ids=KINDS)
def test_reading_that_ends_half_way_may_go_on_another_time(fault: Exception) -> None:
    """The listing is answered, and the reads are not."""
    job = make_job("parquet", put("a.parquet", parquet()), id="id")
    (span, *_) = spans_of(job)
    batches = open_source(job.source, rows=10).read(shard_of(span))
    next(batches)
    weather.fault = fault
    with pytest.raises(Transient, match=r"a\.parquet could not be (read|listed)"):
        list(batches)


@pytest.mark.parametrize("fault", FAULTS, ids=KINDS)
def test_a_folder_that_cannot_be_listed_may_be_listed_another_time(fault: Exception) -> None:
    put("docs/a.parquet", parquet())
    files = tuple(list_files("flaky:///docs", (".parquet",)))
    weather.fault = fault
    with pytest.raises(Transient, match="docs' could not be listed"):
        list(list_files("flaky:///docs", (".parquet",)))
    with pytest.raises(Transient, match=r"a\.parquet' could not be listed"):
        check_unchanged(files)


@pytest.mark.parametrize("fault", FAULTS, ids=KINDS)
def test_a_picture_whose_store_does_not_answer_is_not_set_aside(fault: Exception) -> None:
    """Its key is its content's: the row is not at fault."""
    place = put("a.jpg", b"picture")
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": [place]}), sink)
    job = make_job("parquet", put("a.parquet", sink.getvalue()), image="image")
    (span,) = spans_of(job)
    batches = list(open_source(job.source, rows=10).read(shard_of(span)))
    weather.fault = fault
    maker = RowMaker(job.source, shard_of(span), (), target=job.target)
    with pytest.raises(Transient, match=r"a\.jpg could not be read"):
        list(maker.rows(SimpleNamespace(read=lambda _: batches)))
    weather.fault = None
    assert key_of_file(place)


def test_a_web_server_that_does_not_answer_is_not_an_empty_place() -> None:
    """fsspec says of whatever goes wrong there that nothing was found."""
    files = tuple(list_files(put("a.parquet", parquet()), (".parquet",)))
    weather.fault = FileNotFoundError("http://a")
    weather.fault.__cause__ = TimeoutError()
    with pytest.raises(Transient):
        list(list_files("flaky:///a.parquet", (".parquet",)))
    with pytest.raises(Transient):
        check_unchanged(files)
    weather.fault = FileNotFoundError("http://a")
    with pytest.raises(BadInput, match="no such file or folder"):
        list(list_files("flaky:///a.parquet", (".parquet",)))


def test_damage_behind_fsspec_is_still_damage() -> None:
    cut = parquet()[:-7]
    with pytest.raises(BadInput, match=r"a\.parquet is not a readable Parquet file"):
        spans_of(make_job("parquet", put("a.parquet", cut), id="id"))
    with pytest.raises(BadInput, match="is not a readable JSON Lines file: Truncated"):
        raw(make_job("jsonl", put("a.jsonl.gz", gzip.compress(LINES)[:-9]), id="id"))


def test_a_package_that_remembers_its_listings_hides_no_change() -> None:
    fsspec.register_implementation("remembers", Remembers, clobber=True)

    def written(name: str, data: bytes) -> None:
        with fsspec.open(f"remembers:///folder/{name}", "wb") as file:
            file.write(data)

    written("a.jsonl", LINES)
    (planned,) = list_files("remembers:///folder", (".jsonl",))
    check_unchanged([planned])
    written("a.jsonl", LINES + LINES)
    with pytest.raises(Permanent, match="was changed while it was being read"):
        check_unchanged([planned])
    written("b.jsonl", LINES)
    assert [file.name for file in list_files("remembers:///folder", (".jsonl",))] == ["a.jsonl", "b.jsonl"]
