"""Rows in Parquet to rows that a search finds, against plain scripts on the same rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks import others
from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import Results, Series, compare, ratio
from tests.benchmarks.kitestring import environment, job_of, make_home, own_folder, run
from tests.benchmarks.rows import write_passages
from tests.benchmarks.vectors import cosines
from tests.benchmarks.watch import Watched, watch

ROWS = 5_000
PLAIN = "plain script"
TITLES = {
    others.TUNED: "tuned script: best batch, bfloat16",
    others.POOL: "sentence-transformers' pool of 2",
    others.PIPELINE: 'pipeline("feature-extraction")',
    others.ACCELERATE: f"accelerate launch, {others.PROCESSES} processes",
    others.DATA_PARALLEL: "DataParallel on all GPUs",
    others.RAY: "Ray Data, 2 actors",
    others.EMBED_ANYTHING: "EmbedAnything, encode alone, a tenth of the rows",
}
PARTIAL = ("start-up s", "of it encoding s", "peak MiB")
TENTH = (others.EMBED_ANYTHING,)  # so slow that all of them would take longer than all the rest


def end_to_end(sizes: Sizes) -> Outcome:
    """Start-up ends when the model is loaded; work is what follows, to the end of the process."""
    with own_folder() as folder:
        rows = write_passages(folder / "rows.parquet", sizes.rows_or(ROWS, quick=100))
        count = pq.read_metadata(rows).num_rows
        contenders = contenders_for(folder, rows)
        results = compare({name: c for name, c in contenders.items() if name == PLAIN or sizes.wants(name)}, sizes.rounds)
        _add_cosines(results, folder)
        _add_rates(results, count)
    said = [f"{count:,} rows; times the plain script's encoding and inserting, start-up included; encoding alone, times its encode:"]
    for name, found in results.items():
        whole = f"{1 / ratio(results, name, PLAIN, 'total s'):.2f}; " if "searchable s" in found else ""
        said.append(f"{name}: {whole}{ratio(results, name, PLAIN, 'rows/s'):.2f}")
    return Outcome(title="End to end into Milvus Lite, all-MiniLM-L6-v2", results=results, conclusions=said, drawn="total s")


def contenders_for(folder: Path, rows: Path) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Every contender that is installed here, by its title."""
    batch = best_batch(folder, rows)
    make_home(folder)
    contenders: dict[str, Callable[[], Mapping[str, float]]] = {
        PLAIN: lambda: plain(folder, rows),
    }
    for kind in others.available():
        contenders[TITLES[kind]] = partial(script, folder, rows, kind, batch)
    contenders |= {f"Kitestring, {precision}": partial(kitestring, folder, rows, precision) for precision in ("float32", "auto")}
    if find_spec("openvino"):
        contenders["Kitestring, openvino"] = partial(kitestring, folder, rows, "auto", backend="openvino")
    return contenders


def best_batch(folder: Path, rows: Path) -> int:
    """What a careful person finds by trying."""
    figures = folder / "batches.json"
    command = [sys.executable, "-m", "tests.benchmarks.others", "best-batch", str(rows), str(minilm()), str(figures)]
    watch(command, cwd=folder, env=environment(folder))
    return int(json.loads(figures.read_text())["best"])


def script(folder: Path, rows: Path, kind: str, batch: int) -> Mapping[str, float]:
    """One of `others`: its encoding and inserting, or its encoding of a tenth of the rows alone."""
    with own_folder() as here:
        figures, vectors = here / "figures.json", folder / f"{TITLES[kind]}.npy"
        mine = _tenth(rows, here) if kind in TENTH else rows
        into = [] if kind in TENTH else ["--into", str(here / "other.db"), "--vectors", str(vectors)]
        size = ["--batch", str(batch if kind == others.TUNED else 32)]
        command = [sys.executable, "-m", "tests.benchmarks.others", kind, str(mine), str(minilm()), str(figures), *size, *into]
        watched = watch(command, cwd=here, env=environment(here))
        marks = json.loads(figures.read_text())
        found = scripts_figures(marks, watched, insert=bool(into))
    return {name: found[name] * 10 if name == "of it encoding s" else found[name] for name in PARTIAL} if kind in TENTH else found


def _tenth(rows: Path, folder: Path) -> Path:
    whole, path = pq.read_table(rows), folder / "tenth.parquet"
    pq.write_table(whole.take(list(range(0, whole.num_rows, 10))), path)
    return path


def scripts_figures(marks: Mapping[str, float], watched: Watched, *, insert: bool) -> dict[str, float]:
    """What a script's marks tell."""
    encoding = marks["encoded"] - marks["ready"]
    work_cpu = marks["CPU when done"] - marks["CPU when ready"]
    work = watched.seconds - marks["ready"] if insert else encoding  # what comes after encoding alone is the benchmark's
    figures = figures_of(start_up=marks["ready"], work=work, encode=encoding, work_cpu=work_cpu, watched=watched)
    return figures | ({"searchable s": marks["inserted"] - marks["ready"]} if insert else {})


def plain(folder: Path, rows: Path) -> Mapping[str, float]:
    with own_folder() as here:
        figures = here / "figures.json"
        command = [sys.executable, "-m", "tests.benchmarks.plain", str(rows), str(minilm()), str(figures)]
        command += ["--into", str(here / "plain.db"), "--vectors", str(folder / "reference.npy")]
        watched = watch(command, cwd=here, env=environment(here))
        return scripts_figures(json.loads(figures.read_text()), watched, insert=True)


def kitestring(folder: Path, rows: Path, precision: str, backend: str = "torch") -> Mapping[str, float]:
    name = "openvino" if backend == "openvino" else precision
    with own_folder() as here:
        ran = run(here, job_of(here, rows, minilm(), encoder__precision=precision, compute__backend=backend), home=folder)
        np.save(folder / f"Kitestring, {name}.npy", vectors_in(here / "checkpoint", pq.read_table(rows)["id"].to_pylist()))
    ready, work_cpu = ran.ready, ran.work_cpu_seconds
    work, encoding = ran.watched.seconds - ready, ran.marks["last rows"] - ready
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


def _add_cosines(results: Results, folder: Path) -> None:
    reference = np.load(folder / "reference.npy")
    for name in results:
        if (vectors := folder / f"{name}.npy").exists():
            lowest, mean = cosines(reference, np.load(vectors))
            results[name] |= {"lowest 1-cos, 1e-6": Series(((1 - lowest) * 1e6,)), "mean 1-cos, 1e-6": Series(((1 - mean) * 1e6,))}


def _add_rates(results: Results, count: int) -> None:
    for figures in results.values():
        figures["rows/s"] = Series(tuple(count / seconds for seconds in figures["of it encoding s"].values))
