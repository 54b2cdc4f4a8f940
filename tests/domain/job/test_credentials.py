"""Credentials in the URIs of a job are refused before anything is written, in words that do not repeat them."""

from __future__ import annotations

import jsonschema
import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import has_credentials, without_credentials
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override, parse_job
from tasks.domain.job.source import ParquetSource
from tasks.domain.shards.seal import Quarantined

CARRIERS = [
    "http://root:canary@host:19530",
    "https://canary@host/rows.parquet",
    "s3://canary@bucket/rows",
    "s3://AKIA:canary@bucket/rows",
    "s3://AKIA:can/ary@bucket/rows",
    "http://user:can/ary@host/rows",
    "sftp://user:canary@host/rows",
    "simplecache::https://user:canary@host/rows",
    "https://host/a.parquet?X-Amz-Signature=canary",
    "https://host/a.parquet?v=1&access_token=canary",
    "s3://bucket/rows?aws_secret_access_key=canary",
    "abfs://container@account.dfs.core.windows.net/rows?sv=1&sig=canary",
    "https://host/a.parquet?api_key=canary",
]
PLAIN = [
    "rows",
    "./a:b@c.db",
    "C:/rows/*.parquet",
    "http://host:19530",
    "https://in03-abc.api.gcp-us-west1.zillizcloud.com:443",
    "http://[::1]:19530",
    "s3://bucket/day=1/part-?.parquet",
    "s3://bucket/a@b:c/",
    "hdfs://user@namenode:9000/rows",
    "abfs://container@account.dfs.core.windows.net/rows",
    "zip://*.parquet::s3://bucket/rows.zip",
    "https://host/a.parquet?download=true",
    "file:///rows/a",
    "sentence-transformers/all-MiniLM-L6-v2",
]


@pytest.mark.parametrize("uri", CARRIERS)
@pytest.mark.parametrize("setting", ["source.uri", "checkpoint", "target.uri", "encoder.model"])
def test_a_setting_that_carries_a_credential_is_named_and_not_repeated(setting: str, uri: str) -> None:
    assert has_credentials(uri)
    *parents, last = setting.split(".")
    document: dict[str, object] = {last: uri, "not a setting": 1}
    for parent in parents:
        document = {parent: document}
    for ask in (lambda: parse_job(document), lambda: override(Job(), {setting: uri})):
        with pytest.raises(BadInput) as refused:
            ask()
        line = str(refused.value)
        assert f"'{setting}'" in line
        assert "AWS" in line
        assert "MILVUS_TOKEN" in line
        assert "canary" not in line
        assert "ary@" not in line
        assert "\n" not in line


@pytest.mark.parametrize("uri", PLAIN)
def test_what_carries_none_is_taken(uri: str) -> None:
    assert not has_credentials(uri)
    assert parse_job({"source": {"uri": uri}, "checkpoint": uri, "target": {"uri": uri}}).target.uri == uri


def test_a_job_made_in_python_is_held_to_it_as_well() -> None:
    with pytest.raises(BadInput, match=r"'source\.uri'"):
        Job(source=ParquetSource(uri=CARRIERS[0]))


@pytest.mark.parametrize("place", ["target", "checkpoint", "parquet", "images", "text-files", "webdataset"])
def test_the_schema_refuses_it_so_that_prefects_server_never_keeps_it(place: str) -> None:
    """Prefect's server holds parameters against the schema; validators do not run there."""
    schema = Job.model_json_schema()

    def job(uri: str) -> dict[str, object]:
        if place == "checkpoint":
            return {"checkpoint": uri}
        return {"target": {"uri": uri}} if place == "target" else {"source": {"kind": place, "uri": uri}}

    for uri in PLAIN:
        jsonschema.validate(job(uri), schema)
    for uri in CARRIERS:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(job(uri), schema)


def test_reasons_of_rows_lose_the_credentials_of_the_uris_that_they_name() -> None:
    told = "missing image: https://root:canary@host/a.jpg?w=3&X-Amz-Signature=canary&n=1"
    assert Quarantined(row=0, id=None, reason=told).reason == "missing image: https://host/a.jpg?w=3&X-Amz-Signature=***&n=1"
    assert without_credentials("no URI: a@b?key=1") == "no URI: a@b?key=1"
