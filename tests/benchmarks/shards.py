"""Many shards in one run: what 100, 1,000 and 5,000 of them ask of the flow, of the Prefect server and of its database.

Each shard is a file of a few rows and the model is tiny, so that nothing is measured but what a shard costs. The job is
run twice on one Prefect server of its own, on SQLite and on PostgreSQL; the second time there is nothing to do. Then the
server is asked what the page of the first run asks.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.databases import Served, on_postgres, on_sqlite
from tests.benchmarks.figures import Results, compare
from tests.benchmarks.kitestring import Ran, environment, job_of, own_folder
from tests.benchmarks.watch import watch
from tests.builders.kitestring import write_rows
from tests.builders.models import make_tiny_model
from tests.servers.milvus import milvus_process
from tests.servers.postgres import NoPostgres, programs

COUNTS = (100, 1_000, 5_000)
SHARD_ROWS = 4
ASKED = 5  # times each of the page's questions
LIMIT = 3_600.0  # seconds
SETTLE_SECONDS = 60.0
DATABASES = {"SQLite": on_sqlite, "PostgreSQL": on_postgres}


def shards(sizes: Sizes) -> Outcome:
    """Seconds, memory, and what the server keeps, by shards and database. `--rows`: the most shards."""
    most = sizes.rows_or(COUNTS[-1], quick=20)
    counts = [count for count in COUNTS if count <= most] or [most]
    databases, conclusions = dict(DATABASES), []
    try:
        programs()
    except NoPostgres as error:
        del databases["PostgreSQL"]
        conclusions.append(str(error))
    with own_folder() as folder, milvus_process(ends_with_us=True) as milvus:
        model = make_tiny_model(folder / "tiny")
        contenders = {
            f"{count:,} shards, {database}": partial(one, folder, model, count, database, uri=milvus.uri)
            for count in counts
            for database in databases
            if sizes.wants(f"{count:,} shards, {database}")
        }
        results = compare(contenders, 1 if sizes.quick else sizes.rounds)
    conclusions += by_shard(results)
    return Outcome(title=f"Many shards of {SHARD_ROWS} rows, tiny model", results=results, conclusions=conclusions, drawn="first run s")


def one(folder: Path, model: Path, count: int, database: str, *, uri: str) -> Mapping[str, float]:
    """A first run, the same again, and the questions of the first one's page."""
    rows = folder / f"rows-{count}"
    if not rows.exists():
        for shard in range(count):
            write_rows(rows / f"{shard:05}.parquet", shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)
    with own_folder() as here, DATABASES[database](here) as served:
        settings = {"shards__rows": SHARD_ROWS, "encoder__precision": "float32", "compute__processes": 2}
        target = {"target__uri": uri, "target__collection": f"b{here.name.replace('-', '_')}"}
        job = job_of(here, rows, model, **settings, **target)
        empty = served.size()
        with _peak(served) as peak:
            first = _run(here, job, served)
            kept = _settled(served)
            size = served.size()
            again = _run(here, job, served)
        more = _settled(served)
        (run,) = served.server.request("/flow_runs/filter", {"sort": "START_TIME_ASC", "limit": 1})
        (page,) = [path for path in here.rglob("report.html") if _embedded(path)]
        return {
            "first run s": first.watched.seconds,
            "first run CPU s": first.watched.cpu_seconds,
            "again s": again.watched.seconds,
            "again CPU s": again.watched.cpu_seconds,
            "of it planning s": again.marks["load began"] - again.marks["plan began"],
            "of it proof s": again.marks["promote began"] - again.marks["verify began"],
            "flow MiB": first.watched.peaks.by_kind["flow"],
            "flow MiB again": again.watched.peaks.by_kind["flow"],
            "server and database MiB": peak[0],
            "database MiB, empty": empty / 2**20,
            "database MiB, first run": size / 2**20,
            "database MiB, again": served.size() / 2**20,
            **kept,
            "task runs again": more["task runs"] - kept["task runs"],
            "events again": more["events"] - kept["events"],
            "report.html kB": page.stat().st_size / 1_000,
            **asked(served, run["id"]),
        }


def _run(here: Path, job: Mapping[str, Any], served: Served) -> Ran:
    (here / "job.yaml").write_text(yaml.safe_dump(dict(job)))
    marks = here / "marks.json"
    command = [sys.executable, "-m", "tests.benchmarks.traced", str(marks), "run", str(here / "job.yaml"), "--json"]
    env = environment(here) | {"PREFECT_API_URL": served.server.api}
    watched = watch(command, cwd=here, env=env, every=2.0, limit=LIMIT)
    return Ran(watched=watched, marks=json.loads(marks.read_text()))


def _embedded(page: Path) -> bool:
    """Whether a report is that of the run that had something to do."""
    return bool(json.loads(page.with_name("report.json").read_text())["rows"]["embedded"])


@contextlib.contextmanager
def _peak(served: Served) -> Iterator[list[float]]:
    """The most MiB that the server held within."""
    peak, over = [0.0], threading.Event()

    def sample() -> None:
        while not over.wait(2.0):
            peak[0] = max(peak[0], served.held())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()


def _settled(served: Served) -> dict[str, int]:
    """What the server keeps, once it has written down all that it was told."""
    deadline, before = time.monotonic() + SETTLE_SECONDS, dict[str, int]()
    while before != (now := dict(served.counts())) and time.monotonic() < deadline:
        before = now
        time.sleep(5.0)
    return now


def asked(served: Served, run: str) -> dict[str, float]:
    """Milliseconds until the server has answered what a run's page asks; medians."""
    of_run = {"flow_runs": {"id": {"any_": [run]}}}
    questions: dict[str, tuple[str, dict[str, Any] | None]] = {
        "run": (f"/flow_runs/{run}", None),
        "task runs": ("/task_runs/filter", {**of_run, "limit": 50, "sort": "EXPECTED_START_TIME_DESC"}),
        "artifacts": ("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}, "limit": 50}),
        "logs": ("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}),
        "graph": (f"/flow_runs/{run}/graph-v2", None),
    }
    return {f"{name} page ms": statistics.median(_ms(served, *question) for _ in range(ASKED)) for name, question in questions.items()}


def _ms(served: Served, path: str, body: dict[str, Any] | None) -> float:
    began = time.monotonic()
    served.server.request(path, body)
    return 1_000 * (time.monotonic() - began)


def by_shard(results: Results) -> list[str]:
    """What the server keeps of each shard of the largest run on each database."""
    largest: dict[str, tuple[int, str]] = {}
    for name in results:
        count, _, database = name.partition(" shards, ")
        largest[database] = max(largest.get(database, (0, "")), (int(count.replace(",", "")), name))
    return [
        f"{name}: {1024 * (found['database MiB, first run'].median - found['database MiB, empty'].median) / count:.1f} KiB of database, "
        f"{found['task runs'].median / count:.2f} task runs and {found['events'].median / count:.2f} events for each shard"
        for count, name in largest.values()
        for found in [results[name]]
    ]
