"""What stands in infra/terraform: formatted, and with a policy of exactly what a run calls. `test_terraform_apply.py` applies it."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import hcl2
import pytest

from tasks.adapters.object_store import s3_store
from tasks.adapters.object_store.registry import open_store
from tasks.domain.errors import Transient
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.terraform_files import BUCKETS, FOLDER, bare, policy_document, resource
from tests.servers.s3 import S3Bucket, S3Server, s3_process

REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d{3})')


def allowed() -> set[tuple[str, str]]:
    """Bucket and action."""
    found = policy_document()["Statement"]
    return {(where.split(":::")[1].partition("/")[0], action) for one in found for where in one["Resource"] for action in one["Action"]}


def called(log: str) -> set[tuple[str, str]]:
    """Bucket and the action that AWS asks for, of every request that a log of the server has."""
    return {found for method, path, _ in REQUEST.findall(log) if (found := asked(method, path))}


def asked(method: str, path: str) -> tuple[str, str] | None:
    """docs.aws.amazon.com/service-authorization: what a request needs; None of moto's own."""
    parts = urlsplit(path)
    bucket, _, key = parts.path.lstrip("/").partition("/")
    if bucket not in BUCKETS.values():
        return None
    query = parse_qs(parts.query, keep_blank_values=True)
    if method == "DELETE":
        return bucket, "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
    if method == "POST" and "delete" in query:
        return bucket, "s3:DeleteObject"
    if method in ("PUT", "POST"):
        return bucket, "s3:PutObject" if key else "s3:CreateBucket"
    return bucket, "s3:GetObject" if key else "s3:ListBucket"


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server with the buckets `lake` and `vectors` and a corpus, that lets us do what the policy allows and nothing else."""
    with s3_process() as server:
        for bucket in BUCKETS.values():
            server.client().create_bucket(Bucket=bucket)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        key = user_with_the_policy(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield server


def user_with_the_policy(server: S3Server) -> dict[str, Any]:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=server.url, **keys)
    iam.create_user(UserName="jobs")
    iam.put_user_policy(UserName="jobs", PolicyName="jobs", PolicyDocument=json.dumps(policy_document()))
    made: dict[str, Any] = iam.create_access_key(UserName="jobs")["AccessKey"]
    return made


def guard(server: S3Server) -> int:
    """From here on the policy counts; how much the log held before."""
    before = server.log.stat().st_size
    count = urllib.request.Request(f"{server.url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(count, timeout=10)
    return before


class BreaksOff(io.BytesIO):
    """A file whose disk fails in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= s3_store.PIECE:
            raise OSError("the disk fails")
        return super().read(size)


def test_a_run_calls_what_the_policy_allows_and_all_of_it(
    run_flow: RunFlow, guarded: S3Server, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every S3 request of a run, a large upload, one that fails half way, and a clean-up; the server refuses what is not allowed."""
    for number in range(2):
        write_rows(tmp_path / "rows.parquet", number * 20, number * 20 + 20)
        S3Bucket(server=guarded, name="lake").put(f"corpus/{number}.parquet", (tmp_path / "rows.parquet").read_bytes())
    before = guard(guarded)
    where = {
        "source__uri": "s3://lake/corpus/*.parquet",
        "checkpoint": "s3://vectors/kitestring",
        "target__uri": f"memory://{tmp_path.name}",
    }
    job = make_job(tmp_path, tiny_model, compute__processes=1, **where)
    assert run_flow(job)["rows"]["embedded"] == 40

    monkeypatch.setattr(s3_store, "MULTIPART_BYTES", 5 << 20)
    monkeypatch.setattr(s3_store, "PIECE", 5 << 20)
    store: Any = open_store("s3://vectors/kitestring")
    store.write("large", bytes(6 << 20))
    with pytest.raises(Transient, match="OSError"):
        store._upload("kitestring/broken", BreaksOff(bytes(11 << 20)), large=True)
    store.delete_many(["large"])
    assert store.read("large") is None

    log = guarded.log.read_text()[before:]
    assert called(log) == allowed()
    assert not [line for line in log.splitlines() if '" 403 ' in line]


def test_what_the_policy_does_not_allow_is_refused(guarded: S3Server) -> None:
    """So the server of the test above does look at it."""
    guard(guarded)
    ours = boto3.client("s3")
    ours.put_object(Bucket="vectors", Key="allowed", Body=b"")
    for call in (
        lambda: ours.put_object(Bucket="lake", Key="written", Body=b""),
        lambda: ours.delete_object(Bucket="lake", Key="removed"),
        lambda: ours.delete_bucket(Bucket="vectors"),
        lambda: ours.put_bucket_policy(Bucket="vectors", Policy="{}"),
    ):
        with pytest.raises(ours.exceptions.ClientError, match="AccessDenied"):
            call()


def test_the_bucket_is_private_encrypted_and_rid_of_unfinished_uploads() -> None:
    public = resource("aws_s3_bucket_public_access_block", "checkpoints")
    assert [public[name] for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")] == [
        True
    ] * 4
    (encryption,) = resource("aws_s3_bucket_server_side_encryption_configuration", "checkpoints")["rule"]
    assert encryption["apply_server_side_encryption_by_default"] == [{"sse_algorithm": "AES256"}]
    (rule,) = resource("aws_s3_bucket_lifecycle_configuration", "checkpoints")["rule"]
    assert rule["status"] == "Enabled"
    assert rule["abort_incomplete_multipart_upload"] == [{"days_after_initiation": 1}]
    assert "expiration" not in rule  # what a collection needs is known to `gc` alone


def test_the_worker_runs_what_the_other_workers_run() -> None:
    text = (FOLDER / "worker.tf").read_text()
    assert re.search(r'worker = \["prefect", "worker", "start", "--pool", var.work_pool, "--type", "process"\]', text)
    assert re.search(r"initProcessEnabled\s*= true", text)  # a first process that collects orphans
    assert int(re.findall(r"stopTimeout\s*= (\d+)", text)[0]) > 30


def test_every_name_that_is_used_is_declared() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.tf"))
    variables = {name for path in FOLDER.glob("*.tf") for one in bare(hcl2.loads(path.read_text())).get("variable", []) for name in one}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables
    declared = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)}
    data = {f"{kind}.{name}" for kind, name in re.findall(r'^data "(\w+)" "(\w+)"', text, re.MULTILINE)}
    assert set(re.findall(r"\bdata\.(aws_\w+\.\w+)", text)) == data
    assert set(re.findall(r"(?<!data\.)\b(aws_\w+\.\w+)\.\w+", text)) <= declared


def test_terraform_finds_it_formatted() -> None:
    if not (terraform := shutil.which("terraform") or shutil.which("tofu")):
        pytest.skip("neither terraform nor tofu is installed here")
    done = subprocess.run([terraform, "fmt", "-check", "-diff", FOLDER], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
