"""Rows in Parquet to rows that a search finds, against plain scripts on the same rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import Results, Series, compare, ratio
from tests.benchmarks.kitestring import environment, job_of, own_folder, run
from tests.benchmarks.rows import write_passages
from tests.benchmarks.vectors import cosines
from tests.benchmarks.watch import Watched, watch

ROWS = 1_000
ENCODE, PLAIN = "plain script, encode alone", "plain script, encode and insert"


def end_to_end(sizes: Sizes) -> Outcome:
    """Start-up ends when the model is loaded; work is what follows, to the end of the process."""
    with own_folder() as folder:
        rows = write_passages(folder / "rows.parquet", sizes.rows_or(ROWS))
        contenders = {
            ENCODE: lambda: plain(folder, rows, insert=False),
            PLAIN: lambda: plain(folder, rows, insert=True),
            "Kitestring, float32": lambda: kitestring(folder, rows, "float32"),
            "Kitestring, auto": lambda: kitestring(folder, rows, "auto"),
        }
        results = compare(contenders, sizes.rounds)
        _add_cosines(results, folder, rows)
        count = pq.read_metadata(rows).num_rows
    said = [f"{count:,} rows; work as a multiple of encode alone (seconds; CPU seconds), below 1 is faster:"]
    said += [
        f"{name}: {ratio(results, name, ENCODE, 'work s'):.2f}; {ratio(results, name, ENCODE, 'work, CPU s'):.2f}" for name in contenders
    ]
    return Outcome(title="End to end into Milvus Lite, all-MiniLM-L6-v2", results=results, conclusions=said, drawn="work s")


def plain(folder: Path, rows: Path, *, insert: bool) -> Mapping[str, float]:
    with own_folder() as here:
        figures = here / "figures.json"
        command = [sys.executable, "-m", "tests.benchmarks.plain", str(rows), str(minilm()), str(figures)]
        command += ["--into", str(here / "plain.db")] if insert else ["--vectors", str(folder / "reference.npy")]
        watched = watch(command, cwd=here, env=environment(here))
        marks = json.loads(figures.read_text())
    encoding = marks["encoded"] - marks["ready"]
    work_cpu = marks["CPU when done"] - marks["CPU when ready"]
    work = watched.seconds - marks["ready"] if insert else encoding  # what comes after encoding alone is the benchmark's
    figures = figures_of(start_up=marks["ready"], work=work, encode=encoding, work_cpu=work_cpu, watched=watched)
    return figures | ({"searchable s": marks["inserted"] - marks["ready"]} if insert else {})


def kitestring(folder: Path, rows: Path, precision: str) -> Mapping[str, float]:
    with own_folder() as here:
        ran = run(here, job_of(here, rows, minilm(), encoder__precision=precision))
        ready = max(ran.marks[name] for name in ran.marks if name.endswith(" ready"))
        np.save(folder / f"{precision}.npy", vectors_in(here / "checkpoint", pq.read_table(rows)["id"].to_pylist()))
    work, encoding = ran.watched.seconds - ready, ran.marks["last rows"] - ready
    work_cpu = ran.watched.cpu_seconds - ran.marks["CPU when ready"]
    figures = figures_of(start_up=ready, work=work, encode=encoding, work_cpu=work_cpu, watched=ran.watched)
    return figures | {"searchable s": ran.marks["last load"] - ready}


def figures_of(*, start_up: float, work: float, encode: float, work_cpu: float, watched: Watched) -> dict[str, float]:
    found = {"start-up s": start_up, "work s": work, "of it encoding s": encode, "work, CPU s": work_cpu}
    return found | {"total s": start_up + work, "peak MiB": watched.peaks.whole}


def vectors_in(checkpoint: Path, keys: list[str]) -> np.ndarray:
    """The vectors of a checkpoint's parts, in the order of the keys."""
    found: dict[str, Any] = {}
    for path in checkpoint.rglob("part-*.parquet"):
        part = pq.read_table(path, columns=["id", "vector"])
        found.update(zip(part["id"].to_pylist(), part["vector"].to_numpy(), strict=True))
    assert sorted(found) == sorted(keys), "a row is missing, or there is one too many"
    return np.stack([found[key] for key in keys])


def _add_cosines(results: Results, folder: Path, rows: Path) -> None:
    reference = np.load(folder / "reference.npy")
    for precision in ("float32", "auto"):
        lowest, mean = cosines(reference, np.load(folder / f"{precision}.npy"))
        results[f"Kitestring, {precision}"] |= {
            "lowest 1-cos, 1e-6": Series(((1 - lowest) * 1e6,)),
            "mean 1-cos, 1e-6": Series(((1 - mean) * 1e6,)),
        }
