"""What Kitestring writes below the folder of a source is no part of the source; whatever else is there is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.files.access import NothingToRead
from tasks.adapters.sources.registry import open_source
from tasks.domain.job.source import JsonLinesSource, ParquetSource
from tasks.domain.shards.layout import Layout, encoder_pin, live_run, promotion

OURS = Layout(corpus="docs", fingerprint="0f" * 16)
SHARD = "ab" * 16


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": ["a"], "text": ["one"]}), path)
    else:
        path.write_text('{"id": "a", "text": "one"}\n')


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("checkpoint", ["", "vectors"])
def test_parts_documents_and_a_milvus_lite_file_are_left_out(tmp_path: Path, kind: str, checkpoint: str) -> None:
    keys = [
        OURS.part(SHARD, "run", 0, 1), OURS.digests(SHARD, "run"), OURS.keys(SHARD, "s"), OURS.seal(SHARD), OURS.encoder, OURS.sampled,
        OURS.columns(["n"]), OURS.quality("q"), OURS.place("/data"), OURS.first_roots, OURS.ledger_at("a"), OURS.loaded("t", SHARD), OURS.owners("t"), OURS.lost("t", "n"),
        OURS.importing("a", "run"), OURS.run("run", "report.json"), OURS.mark("sweep"), encoder_pin("docs", "0e" * 16),
        promotion("docs", "rows", 1), live_run("docs", "run"),
    ]  # fmt: skip
    places = [*(tmp_path / checkpoint / key for key in keys), tmp_path / "rows.db" / "collections" / "r" / "data.parquet"]
    places += [tmp_path / "rows.db" / "aliases.json"]
    suffix = ".parquet" if kind == "parquet" else ".json"
    theirs = [f"{name}{suffix}" for name in ("docs/a", "docs/live/b/c", "vectors/d", "vectors/docs/shards/e", f"vectors/docs/{SHARD}/f")]
    for path in [*places, *(tmp_path / name for name in theirs)]:
        put(path)
    settings = ParquetSource(uri=str(tmp_path)) if kind == "parquet" else JsonLinesSource(uri=str(tmp_path))
    source = open_source(settings, rows=10, own=(str(tmp_path / checkpoint), str(tmp_path / "rows.db")))
    assert sorted(span.files[0].name for span in source.spans()) == sorted(theirs)
    assert sorted(source.inspect()) == ["id", "text"]
    ((reason, files),) = [(each.reason, each.files) for each in source.left_out.files() if "checkpoint" in each.reason]
    assert (reason, files) == ("of the job's checkpoint or Milvus Lite file", sum(path.suffix == suffix for path in places))


def test_a_folder_that_holds_nothing_else_is_told_and_a_checkpoint_that_is_the_source_is_read(tmp_path: Path) -> None:
    put(tmp_path / OURS.part(SHARD, "run", 0, 1))
    with pytest.raises(NothingToRead, match="all its files are of the job's checkpoint"):
        next(open_source(ParquetSource(uri=str(tmp_path)), rows=10, own=(str(tmp_path),)).spans())
    below = open_source(ParquetSource(uri=str(tmp_path / OURS.shards)), rows=10, own=(str(tmp_path),))
    assert len(list(below.spans())) == 1
