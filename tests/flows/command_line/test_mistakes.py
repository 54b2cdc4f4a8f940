"""A table of mistakes: for each the command, its exit code and the words of its one line. No mistake ends in a traceback."""

from __future__ import annotations

import errno
import http.server
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.servers.prefect import PrefectServer

Job = dict[str, Any]
Spoil = Callable[[Path], str]


class Mistake(NamedTuple):
    """`settings` over a job with nothing wrong; `text` in place of its file."""

    command: str
    words: list[str]
    settings: list[str] = []  # noqa: RUF012 - a constant
    text: str | None = None
    code: int = 2
    rest: tuple[str, ...] = ()


SOURCE = "source: {kind: parquet, uri: rows, id: id, text: text}\n"
MISTAKES: dict[str, Mistake] = {
    "no job file": Mistake("run", ["there is no job file 'none.yaml' in "], rest=("none.yaml",)),
    "a folder as the job file": Mistake("plan", ["the job file '.' cannot be read", "Is a directory"], rest=(".",)),
    "an empty job file": Mistake("status", ["is empty or not a mapping"], text=""),
    "a tab": Mistake("plan", ["is not YAML: line 2 has a tab", "indent with spaces"], text="source:\n\tkind: parquet\n"),
    "an open bracket": Mistake("plan", ["is not YAML", "line 1"], text="source: [unclosed"),
    "a wrong key": Mistake("verify", ["'sorce' is not a setting; did you mean 'source'?"], text=SOURCE.replace("source", "sorce", 1)),
    "a wrong key below": Mistake("gc", ["'shards.row' is not a setting; did you mean 'rows'?"], ["shards.row=5"]),
    "a word for a number": Mistake("plan", ["'shards.rows' must be an integer, not 'many'"], ["shards.rows=many"]),
    "a number too small": Mistake("plan", ["'shards.rows' must be at least 1, not 0"], ["shards.rows=0"]),
    "a choice that is none": Mistake("plan", ["'target.mode' must be 'append' or 'mirror', not 'sync'"], ["target.mode=sync"]),
    "a list for a text": Mistake("plan", ["'checkpoint' must be a text, not ['a']"], ["checkpoint=[a]"]),
    "a text for settings": Mistake("plan", ["'shards' must be a mapping of settings, not '5 rows'"], ["shards=5 rows"]),
    "json lines by another name": Mistake("plan", ["'source.kind' is 'json'", "did you mean 'jsonl'?"], ["source={kind: json, uri: a}"]),
    "a secret in the file": Mistake(
        "plan", ["contains a password, a token or a key", "MILVUS_TOKEN"], ["target.uri=http://a:b@host:19530"]
    ),
    "--set without a value": Mistake("plan", ["--set shards.rows: write it as path.to.key=value"], ["shards.rows"]),
    "a source that is not there": Mistake(
        "plan", ["no such file or folder", "none.parquet", "correct source.uri"], ["source.uri=none.parquet"]
    ),
    "a source's scheme": Mistake(
        "plan",
        ["source.uri: 'htp://host/rows' cannot be opened: there is no scheme 'htp': use a path, s3://"],
        ["source.uri=htp://host/rows"],
    ),
    "a column that is not there": Mistake("plan", ["'txt' is not in", "did you mean 'text'?"], ["source.text=[txt]"]),
    "a model that is not there": Mistake(
        "plan", ["encoder.model", "there is no folder '/nowhere/model'"], ["encoder.model=/nowhere/model"]
    ),
    "a checkpoint's scheme": Mistake(
        "status", ["checkpoint 'gs://", "use a folder or s3://bucket/prefix"], ["checkpoint=gs://bucket/below"]
    ),
    "a checkpoint's mistyped scheme": Mistake(
        "plan", ["checkpoint 'htp://", "use a folder or s3://bucket/prefix"], ["checkpoint=htp://b/c"]
    ),
    "a target's scheme": Mistake(
        "verify", ["target.uri 'ftp://host' is not a Milvus address", "https://host:19530"], ["target.uri=ftp://host"]
    ),
    "a target's mistyped scheme": Mistake("verify", ["target.uri 'htp://host' is not a Milvus address"], ["target.uri=htp://host"]),
    "a target's file": Mistake("verify", ["is not a Milvus address", "ending in .db"], ["target.uri=rows.sqlite"]),
    "certificates without TLS": Mistake("verify", ["is not a TLS address"], ["target.uri=http://host:19530", "target.tls={ca: a.pem}"]),
    "a certificate that is not there": Mistake(
        "verify", ["target.tls.ca: 'a.pem' cannot be read: No such file"], ["target.uri=https://host:19530", "target.tls={ca: a.pem}"]
    ),
    "metrics for nobody": Mistake(
        "plan", ["'metrics.exporter' must be 'otlp' or 'prometheus', not 'statsd'"], ["metrics={exporter: statsd}"]
    ),
    "lineage to nowhere": Mistake("plan", ["'lineage.url' is required"], ["lineage={namespace: a}"]),
    "a cache without a scheme": Mistake(
        "run", ["'cache.uri': 'localhost' is not an address such as redis://host:6379/0"], ["cache={uri: localhost}"]
    ),
    "chunks switched on": Mistake("plan", ["'source.chunks' must be a mapping of settings or left out, not True"], ["source.chunks=true"]),
    "chunks longer than the model reads": Mistake(
        "plan", ["source.chunks.tokens: 100000 is more than the 64 tokens that the model reads"], ["source.chunks={tokens: 100000}"]
    ),
    "chunks of a language without its grammar": Mistake(
        "plan", ["code:klingon needs a grammar: pip install tree-sitter-klingon"], ["source.chunks={split: 'code:klingon'}"]
    ),
    "a streams' number": Mistake("plan", ["'target.load_streams' must be at least 1, not 0"], ["target.load_streams=0"]),
    "hosts that load into a file": Mistake(
        "plan",
        ["target.load_from: hosts cannot load into this target", "set target.load_from: flow"],
        ["target.load_from=hosts", "compute.engine={kind: ray}"],
    ),
    "sparse vectors in a dense index": Mistake(
        "plan", ["target.index HNSW is for dense vectors: leave it out"], ["encoder.kind=sparse", "target.index={type: HNSW}"]
    ),
    "a mode of other vectors": Mistake("search", ["are dense: use --mode dense"], rest=("words", "--mode", "sparse")),
    "a mode that is none": Mistake(
        "search",
        ["--mode: 'word' is not one of 'dense', 'text', 'hybrid', 'sparse'", "`kitestring search --help`"],
        rest=("a", "--mode", "word"),
    ),
    "no number of hits": Mistake("search", ["-k must be at least 1, not '0'"], rest=("a", "-k", "0")),
    "a word for the hits": Mistake("search", ["-k must be an integer, not 'ten'"], rest=("a", "-k", "ten")),
    "weights that are none": Mistake("search", ["--weights '1': give two numbers"], rest=("a", "--weights", "1")),
    "a command that is none": Mistake("serch", ["no such command 'serch'. Did you mean 'search'?"]),
    "an option that is none": Mistake("search", ["no such option: --modus", "--mode"], rest=("a", "--modus", "text")),
    "an option without its value": Mistake("search", ["option '--filter' requires an argument"], rest=("a", "--filter")),
    "no job": Mistake("run", ["missing argument 'JOB'", "`kitestring run --help`"], rest=("--json",)),
    "one argument too many": Mistake("gc", ["unexpected extra argument(s) (b)"], rest=("a.yaml", "b")),
    "a command below that is none": Mistake("quarantine", ["no such command 'lst'. Did you mean 'list'?"], rest=("lst",)),
    "two characters for one": Mistake(
        "plan", ["'source.quote': 'ab' is not one ASCII character or empty"], ["source={kind: csv, uri: a, quote: ab}"]
    ),
    "a delimiter in words": Mistake(
        "plan", ["'source.delimiter': 'tab' is not one character", "or auto"], ["source={kind: csv, uri: a, delimiter: tab}"]
    ),
    "an empty name": Mistake(
        "plan", ["'lineage.namespace' must be a text of at least 1 character"], ["lineage={url: 'http://h', namespace: ''}"]
    ),
    "a log in no folder": Mistake("status", ["--log-file: 'none/a.log' cannot be written"], rest=("job.yaml", "--log-file", "none/a.log")),
    "a page at another machine": Mistake(
        "browse", ["--host '203.0.113.9' is not an address of this machine"], rest=("job.yaml", "--host", "203.0.113.9", "--no-open")
    ),
    "no words": Mistake("search", ["give either a text to search for", "--image FILE"]),
    "empty words": Mistake("search", ["the text to search for is empty"], rest=(" ",)),
    "an image for a model of texts": Mistake("search", ["--image", "embeds text only"], rest=("--image", "a.png")),
    "a filter that is none": Mistake(
        "search", ["--filter 'lang = de' was refused", "filter by the fields id, text"], rest=("words", "--filter", "lang = de")
    ),
    "a page that cannot be written": Mistake(
        "search", ["--html: 'none/a.html' cannot be written"], rest=("words", "--html", "none/a.html")
    ),
    "promoted before a run": Mistake("promote", ["has no vectors of this encoder: run the job first"], ["corpus=other"]),
    "verified before a run": Mistake("verify", ["run"], ["corpus=other"]),
    "nothing to roll back to": Mistake("rollback", ["has no earlier collection to roll back to"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A job with nothing wrong."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_rows(folder / "rows" / "a.parquet", 0, 5)
    (folder / "job.yaml").write_text(yaml.safe_dump(make_job(folder, tiny_model)))
    return folder


def ran_before(folder: Path, run_flow: RunFlow) -> None:
    if not (folder / "rows.db").exists():
        run_flow(yaml.safe_load((folder / "job.yaml").read_text()))


def line_of(folder: Path, mistake: Mistake, env: Mapping[str, str] | None = None) -> str:
    """The one line that a command answers with."""
    path = folder / "spoiled.yaml"
    path.write_text((folder / "job.yaml").read_text() if mistake.text is None else mistake.text)
    own = mistake.command != "search" and mistake.rest
    settings = [part for setting in mistake.settings for part in ("--set", setting)]
    done = Kitestring(folder=folder, env=env or {}).here(mistake.command, *([] if own else [path]), *mistake.rest, *settings)
    assert (done.code, done.out) == (mistake.code, ""), done
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_told_in_one_line(folder: Path, run_flow: RunFlow, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(folder)
    ran_before(folder, run_flow)
    line = line_of(folder, MISTAKES[what])
    assert all(word in line for word in MISTAKES[what].words), line


@pytest.mark.parametrize("command", ["plan", "status", "verify"])
def test_a_file_that_may_not_be_read_is_told_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Root may read all, so that the refusal is the system call's in its place."""
    deny(monkeypatch, "open", "model.safetensors")
    monkeypatch.setattr("tasks.adapters.models.file_digests._known", {})
    line = line_of(folder, Mistake(command, []))
    assert "model.safetensors" in line
    assert "Permission denied" in line


def deny(monkeypatch: pytest.MonkeyPatch, call: str, denied: str) -> None:
    """Refuse a call of `Path` where the path ends so."""
    allowed = getattr(Path, call)

    def refusing(path: Path, *how: Any, **more: Any) -> Any:
        if str(path).endswith(denied):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return allowed(path, *how, **more)

    monkeypatch.setattr(Path, call, refusing)


@pytest.mark.parametrize("command", ["plan", "status", "verify"])
def test_a_checkpoint_that_may_not_be_read_is_told_by_its_path(
    folder: Path, run_flow: RunFlow, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ran_before(folder, run_flow)
    deny(monkeypatch, "read_bytes", ".json")
    line = line_of(folder, Mistake(command, []))
    assert f"error: {folder}/checkpoint/rows/" in line
    assert "permission denied: let this user read there, or choose another folder" in line


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (errno.ENOSPC, ("no room left on the disk of ", ": free some or choose another folder, then run again: correct `checkpoint`")),
        (errno.EROFS, (": read-only file system: let this user write there, or choose another folder",)),
    ],
)
def test_a_checkpoint_that_takes_nothing_is_told_before_anything_is_encoded(
    folder: Path, run_flow: RunFlow, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, reason: int, words: tuple[str, ...]
) -> None:
    """What a full disk and one that is mounted for reading refuse is a file in the checkpoint."""
    ran_before(folder, run_flow)
    file = tempfile.NamedTemporaryFile

    def refusing(*how: Any, **more: Any) -> Any:
        if "checkpoint" in str(more.get("dir")):
            raise OSError(reason, os.strerror(reason))
        return file(*how, **more)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refusing)
    line = line_of(folder, Mistake("run", []), env=prefect_server.env)
    assert all(word in line for word in (f"{folder}/checkpoint", *words)), line


class _Denies(http.server.BaseHTTPRequestHandler):
    """S3 where nobody knows the key."""

    def do_GET(self) -> None:
        told = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>none</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_PUT = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


UNKNOWN_KEY = ["bucket 'lake'", "the server does not know the access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]
DENIED: dict[str, Mistake] = {
    "a folder": Mistake("plan", UNKNOWN_KEY, ["source.uri=s3://lake/rows/"]),
    "a checkpoint": Mistake("status", UNKNOWN_KEY, ["checkpoint=s3://lake/vectors"]),
    "a delta table": Mistake(
        "plan", ["s3://lake/t", "S3 refuses", "check the AWS credentials"], ["source.kind=delta", "source.uri=s3://lake/t"]
    ),
    "an iceberg table": Mistake("plan", ["'lake' refuses", "check the AWS credentials"], ["source.kind=iceberg", "source.uri=s3://lake/t"]),
}


@pytest.mark.parametrize("what", DENIED)
def test_credentials_that_s3_does_not_know_are_told_with_what_to_set(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Denies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        line = line_of(folder, DENIED[what])
        server.shutdown()
    assert all(word in line for word in DENIED[what].words), line
    assert "nothing" not in line
