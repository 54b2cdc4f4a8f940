"""Nothing that a run leaves, and no process list while it runs, holds a credential.

A word of its own is planted in every place from which a credential may come, runs end well and badly, and then all that
they left is searched. A second word, in the job's own settings and no secret, shows that the search finds what is there.
The environment of a run's own processes is not searched: there the credentials come from.
"""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import filemode
from typing import Any, Self

import pyarrow.parquet as pq
import pytest

from tests.builders.kitestring import SECONDS, Command, Kitestring, make_job, write_rows
from tests.servers.milvus import MilvusProcess
from tests.servers.milvus_proxy import Metadata, Trouble, milvus_proxy
from tests.servers.prefect import PrefectServer
from tests.servers.s3 import S3Bucket, free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

TOLD = f"told{secrets.token_hex(8)}"
CANARIES = {
    name: f"canary{secrets.token_hex(12)}" for name in ("aws secret", "aws session", "endpoint", "milvus", "block", "prefect", "hub")
}
FORMS = {form: name for name, word in CANARIES.items() for form in (word, b64encode(f"root:{word}".encode()).decode())}
SAVE_BLOCK = "import sys; from prefect.blocks.system import Secret; Secret(value=sys.stdin.read()).save('milvus-token')"


def found_in(data: bytes) -> set[str]:
    """Which of the planted words some bytes hold, raw or as gRPC sends a token."""
    return {name for form, name in {**FORMS, TOLD: "told"}.items() if form.encode() in data}


def left_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, by its path."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), str(path).encode() + path.read_bytes()


def left_in_bucket(bucket: S3Bucket) -> Iterator[tuple[str, bytes]]:
    """Every object; of a part also what it holds unpacked."""
    for key in bucket.keys(""):
        data = bucket.get(key)
        unpacked = str(pq.read_table(io.BytesIO(data)).to_pylist()).encode() if key.endswith(".parquet") else b""
        yield f"{key.rpartition('/')[2].partition('-')[0]} {key}", key.encode() + data + unpacked


class Watch:
    """Searches what is there only while runs are at work: process lists and scratch files."""

    def __init__(self, scratch: Path) -> None:
        self.found: dict[str, set[str]] = {"cmdline": set(), "scratch": set()}
        self.modes: dict[str, str] = {}  # of what stands in the place for temporary files; all else is below those
        self._scratch, self._over = scratch, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for path in self._scratch.iterdir():
                with suppress(FileNotFoundError):
                    self.modes[path.name] = filemode(path.lstat().st_mode)
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                self._search("cmdline", path)
            for folder, _, names in os.walk(self._scratch):  # unlike rglob, it goes on where a folder is gone by now
                for name in names:
                    self._search("scratch", Path(folder, name))

    def _search(self, place: str, path: Path) -> None:
        with suppress(OSError):  # gone by now, or a socket
            self.found[place] |= found_in(path.read_bytes())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _words_of(metadata: Metadata) -> str:
    """A server that repeats in its refusal all that it was sent."""
    return f"auth check failure for {metadata}"


@contextmanager
def refusing_servers(milvus: MilvusProcess) -> Iterator[tuple[str, str]]:
    """Two Milvus servers: one that refuses the token at once, and one that refuses it when rows come."""
    with milvus_proxy() as at_once, milvus_proxy(milvus.uri) as later:
        at_once.script = lambda _: Trouble(denied=_words_of)
        later.script = lambda name: Trouble(denied=_words_of) if name == "Upsert" else None
        yield at_once.uri, later.uri


@pytest.fixture
def planted(prefect_server: PrefectServer, s3_bucket: S3Bucket, tmp_path: Path) -> Iterator[Kitestring]:
    """The command line, with a word wherever a credential may stand; scratch is in `TMPDIR`."""
    env = {
        **prefect_server.env,
        "AWS_SECRET_ACCESS_KEY": CANARIES["aws secret"],
        "AWS_SESSION_TOKEN": CANARIES["aws session"],
        "MILVUS_TOKEN": f"root:{CANARIES['milvus']}",
        "PREFECT_API_KEY": CANARIES["prefect"],
        "HF_TOKEN": CANARIES["hub"],
        "HF_HUB_OFFLINE": "1",
    }
    subprocess.run([sys.executable, "-c", SAVE_BLOCK], env=env, input=f"root:{CANARIES['block']}", text=True, check=True, timeout=120)
    folder = tmp_path / TOLD
    folder.mkdir()
    before = os.umask(0)
    with tempfile.TemporaryDirectory(prefix="s-") as scratch:
        yield Kitestring(folder=folder, env={**env, "TMPDIR": scratch})
    os.umask(before)


def all_at_once(kitestring: Kitestring, jobs: Mapping[str, dict[str, Any]], env: Mapping[str, Mapping[str, str]]) -> dict[str, Command]:
    """Every job run at the same time, to its end."""
    with ExitStack() as stack:
        started = {}
        for name, job in jobs.items():
            command = Kitestring(folder=kitestring.folder, env={**kitestring.env, **env.get(name, {})})
            process = stack.enter_context(command.start("run", kitestring.job(job, f"{TOLD}-{name}.yaml"), "--json"))
            stack.callback(process.kill)
            started[name] = process
        ended = {name: (process.communicate(timeout=SECONDS), process.returncode) for name, process in started.items()}
    return {name: Command(code=code, out=out, err=err) for name, ((out, err), code) in ended.items()}


def test_no_credential_is_in_anything_that_a_run_leaves(
    planted: Kitestring,
    prefect_server: PrefectServer,
    tmp_path: Path,
    tiny_model: Path,
    s3_bucket: S3Bucket,
    milvus_server: MilvusProcess,
) -> None:
    write_rows(tmp_path / "a.parquet", 0, 60)
    s3_bucket.put("rows/a.parquet", (tmp_path / "a.parquet").read_bytes())
    (tmp_path / "a.parquet").unlink()
    sealed = {"corpus": TOLD, "source__uri": f"{s3_bucket.url}/rows/*.parquet", "compute__processes": 1}

    def job(name: str, **more: object) -> dict[str, Any]:
        settings = {**sealed, "checkpoint": f"{s3_bucket.url}/{TOLD}-{name}", "target__uri": str(planted.folder / f"{name}.db"), **more}
        return make_job(tmp_path, tiny_model, **settings)

    with refusing_servers(milvus_server) as (at_once, later), Watch(Path(planted.env["TMPDIR"])) as watch:
        jobs = {
            "well": job("well"),
            "no-bucket": job("no-bucket", checkpoint=f"s3://{TOLD}-is-not-there/x"),
            "no-s3": job("no-s3"),
            "token-refused": job("token-refused", target__uri=at_once),
            "refused-later": job("refused-later", target__uri=later, target__token_block="milvus-token", target__collection=TOLD),
        }
        ended = all_at_once(planted, jobs, {"no-s3": {"AWS_ENDPOINT_URL": f"http://root:{CANARIES['endpoint']}@127.0.0.1:{free_port()}"}})

    codes = {"well": 0, "no-bucket": 2, "no-s3": 2, "token-refused": 2, "refused-later": 1}
    assert {name: command.code for name, command in ended.items()} == codes, ended
    assert "MILVUS_TOKEN" in ended["token-refused"].err
    for name in ("token-refused", "refused-later"):
        assert "***" in ended[name].err, f"{name}: the server did not repeat the token: {ended[name].err}"

    left = [(f"{kind} of {name}", text.encode()) for name, c in ended.items() for kind, text in (("stdout", c.out), ("stderr", c.err))]
    left += [*left_in_bucket(s3_bucket), *left_in(tmp_path), *left_in(prefect_server.home), *left_in(Path(planted.env["TMPDIR"]))]
    found = {place: found_in(data) for place, data in left} | watch.found
    assert {place: words - {"told"} for place, words in found.items() if words - {"told"}} == {}

    assert any(name.startswith("kitestring-") for name in watch.modes)
    assert {name: mode for name, mode in watch.modes.items() if mode[4:] != "------"} == {}  # private, also with umask 0

    told = " ".join(place for place, words in found.items() if "told" in words)
    for place in ("stdout of well", "seal.json", "part", "report.html", "report.json", "prefect.db", "cmdline", "scratch"):
        assert place in told, f"the search does not look into {place}"


def test_a_credential_in_the_job_is_refused_before_anything_is_written(kitestring: Kitestring, tmp_path: Path) -> None:
    """Which ones are, `tests/domain/job/test_credentials.py` says."""
    job = kitestring.job(make_job(tmp_path, tmp_path / "no model"))
    refused = kitestring("run", job, "--set", f"target.uri=http://root:{CANARIES['milvus']}@host:1")
    assert refused.code == 2
    [line] = refused.err.splitlines()
    assert line.startswith("error: 'target.uri' contains a password, a token or a key")
    assert not found_in(refused.err.encode())
    assert [path.name for path in kitestring.folder.iterdir()] == ["job.yaml"]
