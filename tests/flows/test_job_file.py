"""A job file is read within bounds: it cannot eat the machine, and says in one line what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.job_file import JOB_FILE_BYTES, read_job
from tasks.domain.errors import BadInput

JOB = """
corpus: docs
source: {kind: parquet, uri: /data, text: body, id: id}
encoder: {kind: sentence-transformers, model: a/b}
checkpoint: /checkpoint
target: {uri: /rows.db, collection: docs}
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


def refused(folder: Path, text: str, *settings: str) -> str:
    path = folder / "job.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_job(path, list(settings))
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB + JOB, "holds more than 20,000 values, aliases written out (line"),
        ("a: " + "[" * 20_000 + "]" * 20_000 + JOB, "is nested more than 40 levels deep (line 1)"),
        ("a: " * 20_000 + JOB, "is not YAML"),
        ("a: &a [*a]\n" + JOB, "refers to itself by an alias (line 1)"),
        ("a: &a {b: {c: *a}}\n" + JOB, "refers to itself by an alias (line 1)"),
        (JOB + "shards: {rows: 1" + "0" * 5_000 + "}\n", "holds a value that cannot be read, Exceeds the limit (4300 digits)"),
        (JOB + "title: 2026-13-40\n", "holds a value that cannot be read, month must be in 1..12 (line 7)"),
        (JOB + "corpus: other\n", "has the key 'corpus' twice (line 7)"),
        (JOB + "shards: {rows: 1, rows: 2}\n", "has the key 'rows' twice (line 7)"),
        ("# " + "x" * JOB_FILE_BYTES + JOB, "is larger than 1 MiB"),
    ],
    ids=["bomb", "deep", "deep in one line", "itself", "itself below", "digits", "date", "twice", "twice below", "large"],
)
def test_what_no_job_needs_is_refused_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    assert why in refused(tmp_path, text)


def test_a_setting_over_the_file_has_the_same_bounds(tmp_path: Path) -> None:
    assert "--set shards: the value has the key 'rows' twice" in refused(tmp_path, JOB, "shards={rows: 1, rows: 2}")
    assert "--set shards: the value is nested more than" in refused(tmp_path, JOB, f"shards={'[' * 20_000}")


def test_anchors_that_people_use_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("corpus: docs", "corpus: &name docs").replace("collection: docs", "collection: *name"))
    job = read_job(path, ["shards.rows=100"])
    assert (job.corpus, job.target.collection, job.shards.rows) == ("docs", "docs", 100)
