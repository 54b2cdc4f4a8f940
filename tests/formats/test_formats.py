"""What older versions wrote is read for ever: a checkpoint and a collection of each format, as they were written.

A tar holds a job (paths relative to its folder), its source, its checkpoint and its Milvus Lite file. It was written by the
commit that it is named after, with `tests.builders.models.make_tiny_model` in the folder `model`.

12c0cc5   documents of format 1: a ledger by address, entries without places, collections without identity. Three files of ten rows,
          one row quarantined; then 1.parquet left the source, and an append kept its rows.
0ad5aa8   seals, entries, moves and proofs of format 2: a ledger by the collection's identity, places and roots, checksums. The same rows.
57139d3   seals of format 3 and parts of format 2: what each row is made of, so that unchanged rows keep their vectors; columns kept apart.
          The same rows.
be58aff   an entry of format 3, whose rows were sent without their vectors: 2.parquet had other numbers before. Hashes of vectors beside the
          keys, lengths in parts, what the last run told of itself. Otherwise the same rows.
14fca39   a seal of format 4, which says how many of its rows came from a cache: all of 0.parquet. Otherwise the same rows.
9a1d898   the root that the corpus read first, which shard ids leave out. The same rows.

part-3.parquet is a part of format 3, whose vectors are sparse.
"""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.checkpoint.part_files import part_vectors, read_part
from tasks.adapters.rows.vectors.sparse_vectors import as_mapping
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, write_rows
from tests.builders.models import make_tiny_model
from tests.chaos.mirror import rows_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
FORMATS = sorted(path.name.removesuffix(".tar.gz") for path in HERE.glob("*.tar.gz"))


@pytest.fixture(params=FORMATS)
def job(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with tarfile.open(HERE / f"{request.param}.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    for path in tmp_path.glob("rows/*.parquet"):  # a file's time is its version
        os.utime(path, ns=(1_700_000_000_000_000_000 + int(path.stem),) * 2)
    make_tiny_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    document: dict[str, Any] = json.loads((tmp_path / "job.json").read_text())
    return document


def test_a_part_of_sparse_vectors_is_read() -> None:
    table, meta = read_part((HERE / "part-3.parquet").read_bytes())
    assert (meta.format_version, meta.shard, meta.stop) == (3, "s", 3)
    assert [as_mapping(row) for row in part_vectors(table)] == [{7: 1.5, 29_999: 0.25}, {0: 3.0}]
    assert table.drop(["vector"]).to_pylist() == [
        {"id": f, "text": t, "n": n, "shard": "s"} for f, t, n in (("a", "one", 1), ("b", "two", 2))
    ]


def roots() -> list[str]:
    """Where rows were read from, as far as the format tells."""
    return [json.loads(path.read_text())["root"] for path in Path().rglob("loads/*/roots/*.json")]


def where_rows_were(job: dict[str, Any]) -> None:
    """The folder was another when the rows were read, which only a person can know: their names, sizes and times say no more."""
    if roots():
        (job["source"]["moved_from"],) = roots()


def test_a_run_encodes_nothing_and_loads_nothing(run_flow: RunFlow, job: dict[str, Any], tmp_path: Path) -> None:
    def listed() -> dict[str, tuple[int, int]]:
        """Seals and parts, and when they were written."""
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in tmp_path.rglob("shards/**/*.*")}

    def entries() -> dict[str, dict[str, Any]]:
        """The ledger, less where a file is now, and what is computed over all of an entry."""
        found = {str(path): json.loads(path.read_text()) for path in tmp_path.rglob("loads/*/[0-9a-f]*.json")}
        return {path: {name: value for name, value in entry.items() if name not in {"place", "checksum"}} for path, entry in found.items()}

    where_rows_were(job)
    before, ledger, rows = listed(), entries(), rows_in("./rows.db", "rows")
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["rows"]["reused"], result["rows"]["loaded"]) == (0, 19, 19)
    assert (result["verified"], result["rows"]["removed"]) == (True, 0)
    assert (listed(), entries(), rows_in("./rows.db", "rows")) == (before, ledger, rows)
    assert len(rows) == 29


def test_status_verify_and_diff_read_it(job: dict[str, Any], kitestring: Kitestring) -> None:
    where_rows_were(job)
    path = kitestring.job(job)
    # The first version's proof did not look at rows of files that have left the source.
    assert kitestring.here("status", path).code == (0 if roots() else 3)
    assert kitestring.here("verify", path, "--full").code == 0
    assert kitestring.here("diff", path).code == 0
    assert kitestring.here("status", path).code == 0
    assert kitestring.here("quarantine", "list", path, "--json").json[0]["reason"].startswith("empty text")
    assert kitestring.here("search", path, "the one that was", "-k", "3").code == 0


def test_what_changes_in_the_source_is_replaced_and_what_left_it_stays(run_flow: RunFlow, job: dict[str, Any], tmp_path: Path) -> None:
    numbers = {"n": list(range(6)), "lang": ["de"] * 6, "tags": [["a"]] * 6}
    write_rows(tmp_path / "rows" / "0.parquet", 0, 6, **numbers)
    where_rows_were(job)
    known = any(tmp_path.rglob("digests.parquet"))  # the texts are as they were
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["rows"]["removed"], result["verified"]) == (0 if known else 6, 4, True)
    assert len(rows_in("./rows.db", "rows")) == 25


def test_another_root_does_not_replace_what_was_read_before_places_were_kept(
    run_flow: RunFlow, job: dict[str, Any], tmp_path: Path
) -> None:
    numbers = {"n": list(range(6)), "lang": ["de"] * 6, "tags": [["a"]] * 6}
    write_rows(tmp_path / "tomorrow" / "0.parquet", 100, 106, **numbers)
    job["source"]["uri"] = "tomorrow"
    result = run_flow(job)
    assert (result["rows"]["removed"], result["verified"]) == (0, True)
    assert len(rows_in("./rows.db", "rows")) == 35
