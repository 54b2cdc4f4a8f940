"""Seconds from the command to the first encoded row, and those of a run that has nothing to encode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import Ran, job_of, own_folder, run
from tests.benchmarks.rows import write_passages

ROWS = 64
STEPS = (  # each from the mark before it that is there
    ("Python, command line", "command line read"),
    ("import of Prefect and stages", "Prefect imported"),
    ("server, still", "server up"),
    ("flow begins", "looked at the job"),
    ("looking at the job", "job looked at"),
    ("planning", "ranks started"),
    ("ranks", "rank ready"),
    ("first batch", "first rows"),
    ("encoding, sealing", "load began"),
    ("loading", "last load"),
    ("tidying, proof", "report began"),
    ("report", "report drawn"),
    ("flow ends", "flow returned"),
    ("server stops", "ended"),
)


def startup(sizes: Sizes) -> Outcome:
    """A first run, and the same again; each first run has a Prefect home that an earlier run has made."""
    with own_folder() as folder:
        rows = write_passages(folder / "rows.parquet", sizes.rows_or(ROWS, quick=16))
        count = [0]
        run(folder, job_of(folder, rows, minilm()))  # makes Prefect's database, and reads every file once

        def first() -> Mapping[str, float]:
            count[0] += 1
            return steps(_run_once(folder, rows, f"n{count[0]}"))

        def again() -> Mapping[str, float]:
            return steps(_run_once(folder, rows, f"n{count[0]}"))

        results = compare({"first run": first}, 1)  # so that there is something to do again
        results = compare({"first run": first, "nothing to encode": again}, sizes.rounds)
    return Outcome(title="Start-up in seconds, all-MiniLM-L6-v2", results=results, drawn="whole")


def _run_once(folder: Path, rows: Path, name: str) -> Ran:
    job = job_of(folder, rows, minilm(), corpus=name, target__uri=str(folder / f"{name}.db"))
    return run(folder, job, every=5)


def steps(ran: Ran) -> dict[str, float]:
    """Seconds by step, those inside the slowest rank's start, and the whole."""
    marks, whole = dict(ran.marks), ran.watched.seconds
    found: dict[str, float] = {}
    before = 0.0
    for step, mark in STEPS:
        if mark in marks:
            found[step] = marks[mark] - before
            before = marks[mark]
    found["process ends"] = whole - before
    for inside, seconds in marks.get("rank 0", {}).items():
        found[f"rank 0: {inside}"] = seconds
    if "first rows" in marks:
        found["to the first row"] = marks["first rows"]
    found["whole"] = whole
    found["CPU s"] = ran.watched.cpu_seconds
    return found
