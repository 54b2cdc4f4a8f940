"""A listing of a million files in S3: what it takes to plan them, in a process as the flow's.

The server is of S3's protocol and has names alone, so the listing is read as it is from S3, but without its distance. The source is one of
pictures, whose files are not looked into; those of other kinds have their heads or footers read as well, 32 at a time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tasks.adapters.checkpoint.span_file import Spool
from tasks.adapters.sources.registry import open_source
from tasks.domain.job.parse import parse_job
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import own_folder
from tests.builders.kitestring import make_job

FILES = 1_000_000
LARGE = 250  # pictures of a shard
MIB = 2**20


def listing(sizes: Sizes) -> Outcome:
    """Seconds and MiB of planning, by files and by those of a shard. `--rows`: the most files."""
    many = sizes.rows_or(FILES, quick=2_000)
    kinds = {(count, rows): f"{count:,} files, {rows} a shard" for count, rows in ((many // 100, 1), (many, LARGE), (many, 1))}
    results = compare({name: partial(planned_apart, *kind) for kind, name in kinds.items() if sizes.wants(name)}, 1)
    return Outcome(title="Planning files in S3, by a process as the flow's", results=results, drawn="MiB more")


def planned_apart(files: int, rows: int) -> Mapping[str, float]:
    """In a process of its own, beside the server's."""
    with (
        own_folder() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.listing_server", str(files)], stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        try:
            assert server.stdout
            endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
            env = {**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint}
            command = [sys.executable, "-m", "tests.benchmarks.listing", str(folder), str(rows)]
            found: dict[str, float] = json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout)
        finally:
            server.kill()
    assert found.pop("files") == files
    return found


def planned(folder: Path, rows: int) -> Mapping[str, float]:
    """The source cut into shards on disk, as a run does it, and read once, as each of its passes does."""
    # The first page is a warm-up: libraries and a client are there before memory is looked at.
    source: dict[str, Any] = {"kind": "images", "uri": "s3://lake/rows"}
    job = parse_job(make_job(folder, folder, source=source, encoder={"kind": "open-clip", "architecture": "a", "pretrained": "p"}))
    opened = open_source(job.source, rows=rows)
    next(iter(opened.spans()))
    before, began, cpu = _most_memory(), time.monotonic(), time.process_time()
    spool = Spool(folder / "spans.jsonl", opened.spans(), rows_as={})
    seconds, busy = time.monotonic() - began, time.process_time() - cpu
    began = time.process_time()
    files = sum(len(shard.span.files) for shard in spool.named("f" * 32))
    return {
        "files": files,
        "shards": spool.shards,
        "seconds": seconds,
        "CPU seconds": busy,
        "CPU seconds to read it once": time.process_time() - began,
        "MiB more": (_most_memory() - before) / MIB,
        "MiB on disk": (folder / "spans.jsonl").stat().st_size / MIB,
    }


def _most_memory() -> int:
    """Bytes; `getrusage` would tell those of the process that started this one as well."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


if __name__ == "__main__":
    print(json.dumps(planned(Path(sys.argv[1]), int(sys.argv[2]))))
