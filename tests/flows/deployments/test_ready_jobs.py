"""deployments/jobs: each is a job by the schema, and is planned on data of its kind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from flows.job_file import read_job
from tasks.commands.inspect import look_at_plan
from tasks.domain.job.json_schema import job_schema
from tasks.domain.job.parse import override
from tests.builders.models import Clip
from tests.builders.readme import QuickStart, quick_starts
from tests.builders.tars import pack
from tests.servers.s3 import S3Bucket

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "deployments" / "jobs").glob("*.yaml"))
ROWS = 20
COLUMNS = ("article_id", "ticket_id", "title", "subject", "body", "language", "status", "published", "opened")


def picture(n: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (n, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """What the jobs' sources hold, small."""
    for name in ("articles", "tickets"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({column: [f"{column} {n}" for n in range(ROWS)] for column in COLUMNS}), tmp_path / name / "0.parquet")
    (tmp_path / "photos").mkdir()
    for n in range(ROWS):
        (tmp_path / "photos" / f"{n}.jpg").write_bytes(picture(n))
    (tmp_path / "pairs").mkdir()
    for tar in range(4):
        parts = {"jpg": picture(tar), "txt": b"a kite", "json": b'{"width": 1, "height": 2}'}
        members = [(f"{n}.{end}", content) for n in range(ROWS // 4) for end, content in parts.items()]
        (tmp_path / "pairs" / f"{tar:05}.tar").write_bytes(pack(members))
    return tmp_path


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_is_a_job_by_the_schema_that_it_names(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    schema = file.parent / document["$schema"]
    jsonschema.validate(document, json.loads(schema.read_text()))
    read_job(file, None)


@pytest.mark.parametrize("start", quick_starts(), ids=lambda start: start.title)
def test_so_are_the_jobs_of_the_readme(start: QuickStart) -> None:
    jsonschema.validate(yaml.safe_load(start.job), job_schema())


def test_a_wrong_job_is_none(tmp_path: Path) -> None:
    for wrong in ({"source": {"kind": "csv", "text": 5}}, {"source": {"types": {"n": "number"}}}, {"sorce": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, job_schema())
    jsonschema.validate({"source": {"text": "body", "types": {"n": "text"}, "metadata": {"a": "b"}}}, job_schema())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_is_planned_on_data_of_its_kind(file: Path, lake: Path, s3_bucket: S3Bucket, tiny_model: Path, tiny_clip: Clip) -> None:
    """With the places of this test, its models and its Milvus; all else is the file's own."""
    job = read_job(file, None)
    places: dict[str, Any] = {"checkpoint": str(lake / "checkpoint"), "target.uri": str(lake / "rows.db"), "target.staging": ""}
    if job.encoder.kind == "open-clip":
        places |= {"encoder.architecture": tiny_clip.architecture, "encoder.pretrained": tiny_clip.pretrained}
    else:
        places |= {"encoder.model": str(tiny_model)}
    if file.stem == "s3-to-milvus":
        s3_bucket.put("articles/2026/0.parquet", (lake / "articles" / "0.parquet").read_bytes())
        places |= {"source.uri": f"{s3_bucket.url}/articles/**/*.parquet", "checkpoint": f"{s3_bucket.url}/vectors"}
    elif job.source.uri.startswith("s3://"):
        places |= {"source.uri": job.source.uri.replace("s3://lake", str(lake))}
    else:
        places |= {"source.uri": str(ROOT / job.source.uri)}
    if job.compute.engine.kind != "local":
        places |= {"compute.engine": {"kind": "local"}}
    plan = look_at_plan(override(job, places))
    assert plan["rows"]["source"] in (ROWS, 24, None)
    assert plan["shards"]["sealed"] == 0
    assert plan["shards"]["planned"] >= 1
    assert plan["estimate"]["rows"]["high"] >= ROWS
