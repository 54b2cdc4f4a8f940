"""The README's quick starts, word for word: each job is saved as it stands, each command is run, and prints what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.kitestring import SECONDS, Kitestring
from tests.builders.readme import ROOT, QuickStart, prints, quick_starts
from tests.servers.forward import forwarded
from tests.servers.milvus import MilvusProcess
from tests.servers.s3 import S3Bucket

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
MODEL, COMMIT = "models--sentence-transformers--all-MiniLM-L6-v2", "c" * 40
LAPTOP, LAKE, GPU = quick_starts()


@pytest.fixture
def newcomer(kitestring: Kitestring, minilm_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitestring:
    """In the root of a checkout, with `kitestring` on the path and the model in the hub's cache, where a download would put it."""
    (kitestring.folder / "deployments").symlink_to(ROOT / "deployments")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kitestring").write_text(f'#!/bin/sh\nexec {sys.executable} -m flows "$@"\n')
    (tmp_path / "bin" / "kitestring").chmod(0o755)
    cached = tmp_path / "hub" / "hub" / MODEL
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / COMMIT).symlink_to(minilm_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Kitestring(folder=kitestring.folder, env={**kitestring.env, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"})


@pytest.fixture
def lake(s3_bucket: S3Bucket, milvus_server: MilvusProcess) -> Iterator[None]:
    """The buckets that the README names, with its file in one, and a Milvus server at the port that it names."""
    client = s3_bucket.server.client()
    for name in ("lake", "vectors"):
        client.create_bucket(Bucket=name)
    client.upload_file(str(ROOT / "deployments" / "kites.jsonl"), "lake", "kites/kites.jsonl")
    try:
        with forwarded(19530, int(milvus_server.uri.rsplit(":", 1)[1])):
            yield
    finally:
        for name in ("lake", "vectors"):
            for entry in client.list_objects_v2(Bucket=name).get("Contents", []):
                client.delete_object(Bucket=name, Key=entry["Key"])
            client.delete_bucket(Bucket=name)


def follow(start: QuickStart, newcomer: Kitestring) -> None:
    """Do what it says; each command ends well and prints what is written."""
    (newcomer.folder / start.file).write_text(start.job)
    env = {**newcomer.env, "PATH": os.environ["PATH"], **{name: value for name, value in os.environ.items() if name.startswith("AWS_")}}
    for command, expected in start.commands:
        done = subprocess.run(
            ["sh", "-c", command], cwd=newcomer.folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert prints(expected, done.stdout), f"{command}\nprinted:\n{done.stdout}\nthe README says:\n{expected}"


def test_the_first_runs_on_this_machine_with_milvus_lite(newcomer: Kitestring) -> None:
    follow(LAPTOP, newcomer)


def test_the_second_runs_on_s3_and_a_milvus_server(newcomer: Kitestring, lake: None) -> None:
    follow(LAKE, newcomer)


def test_the_third_is_for_gpus_and_runs_on_cpus_with_the_same_commands(newcomer: Kitestring) -> None:
    follow(GPU, newcomer)


def test_the_guide_from_python_runs_as_it_stands(newcomer: Kitestring) -> None:
    script = ROOT / "deployments" / "guides" / "from_python.py"
    env = {**newcomer.env, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=newcomer.folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *hits, shards, mistake = done.stdout.splitlines()
    assert first.startswith("24 rows are searchable, verified; the report: ")
    assert len(hits) == 3
    assert "  box  " in hits[0]
    assert shards == "planned=2 sealed=2 loaded=2 failed=0"
    assert "targt" in mistake
