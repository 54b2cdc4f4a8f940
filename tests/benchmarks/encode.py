"""Encoding alone: what a rank does with rows, against `SentenceTransformer.encode` with its defaults."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import Results, Series
from tests.benchmarks.kitestring import environment, own_folder
from tests.benchmarks.rows import write_passages
from tests.benchmarks.vectors import STOCK
from tests.benchmarks.watch import watch

RANKS = (1, 2)
ROWS = 4_000  # stock pads less the more it may sort: a few hundred would flatter us


# A processor without bfloat16 and AVX-512, as many hosts of clouds are, for oneDNN (torch's and OpenVINO's), torch's own kernels and MKL.
MASKED = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def encode(sizes: Sizes) -> Outcome:
    """Rows/s by ranks, precision and tokens in a batch; the launches of one and two ranks follow each other."""
    return _encode(sizes, {}, "Encoding alone, all-MiniLM-L6-v2")


def encode_masked(sizes: Sizes) -> Outcome:
    """The same in float32, with the processor's bfloat16 and AVX-512 masked."""
    return _encode(sizes, MASKED, "Encoding alone, all-MiniLM-L6-v2, AVX-512 and bfloat16 masked")


def _encode(sizes: Sizes, masks: Mapping[str, str], title: str) -> Outcome:
    results: Results = {}
    conclusions: list[str] = []
    with own_folder() as folder:
        rows = write_passages(folder / "rows.parquet", sizes.rows_or(ROWS, quick=32))
        for ranks in RANKS:
            measured = _launch(folder, rows, ranks, sizes, masks)
            for name, found in measured.items():
                results[f"{name} (beside {ranks})" if name == STOCK or name.startswith("tuned") else name] = found
            conclusions += _ratios(measured, ranks)
    return Outcome(title=title, results=results, conclusions=conclusions, drawn="ratio")


def _ratios(measured: Results, ranks: int) -> list[str]:
    """Of the fastest of each kind."""
    kinds = {
        "torch": [name for name in measured if " threads, " in name and "openvino" not in name],
        "OpenVINO": [name for name in measured if "openvino" in name],
    }
    tuned = max((name for name in measured if name.startswith("tuned")), key=lambda name: measured[name]["ratio"].median, default=STOCK)
    said = []
    for kind, names in kinds.items():
        if names:
            best = max(names, key=lambda name: measured[name]["ratio"].median)
            times, over = measured[best]["ratio"].median, measured[tuned]["ratio"].median
            said.append(f"{ranks} ranks, {kind}: fastest is {best}, {times:.2f} x {STOCK}, {times / over:.2f} x {tuned}")
    return said


def _launch(folder: Path, rows: Path, ranks: int, sizes: Sizes, masks: Mapping[str, str]) -> Results:
    out = folder / "alone.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(ranks)]
    watch(
        [*torchrun, "-m", "tests.benchmarks.ranks_alone", str(rows), str(minilm()), str(out), str(sizes.rounds), *sizes.only],
        cwd=folder,
        env={**environment(folder), **masks},
        every=60.0,  # nobody looks at its memory
    )
    return read(json.loads(out.read_text()))


def read(told: dict[str, Any]) -> Results:
    """Rates, and ratios to stock within each round."""
    count, seconds, cpu, cosines = told["rows"], told["seconds"], told["cpu"], told["cosines"]
    results: Results = {}
    for name, took in seconds.items():
        results[name] = {
            "rows/s": Series(tuple(count / s for s in took)),
            "ratio": Series(tuple(stock / s for stock, s in zip(seconds[STOCK], took, strict=True))),
            "by CPU s": Series(tuple(stock / s for stock, s in zip(cpu[STOCK], cpu[name], strict=True))),
        }
        if name in cosines:
            lowest, mean = cosines[name]
            results[name] |= {"lowest 1-cos, 1e-6": Series(((1 - lowest) * 1e6,)), "mean 1-cos, 1e-6": Series(((1 - mean) * 1e6,))}
    return results
