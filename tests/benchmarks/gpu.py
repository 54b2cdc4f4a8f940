"""Encoding on a GPU: rows/s, tokens/s and the share of the card's own matrix rate, by model. Weights are random; speed does not mind.

python -m tests.benchmarks.gpu                        # writes tests/benchmarks/gpu.md
python -m tests.benchmarks.gpu --device cpu --quick   # shows that the script works: tiny models, a few rows
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.flop_counter import FlopCounterMode

from tasks.domain.job.encoder import OpenClipEncoder, Precision, SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize.attention import unpadded_attention
from tasks.worker.system.placement import RankPlacement
from tests.benchmarks.gpu_models import CLIPS, TEXTS, write_clip, write_text_model
from tests.benchmarks.output import markdown

MINIMUM_SECONDS = 5.0  # of each measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how much."""

    device: str
    precision: Precision
    quick: bool

    @property
    def seconds(self) -> float:
        return 0.0 if self.quick else MINIMUM_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("tests/benchmarks/gpu.md"))
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here; --device cpu --quick shows that the script works")
    setting = Setting(device="cuda:0" if asked.device == "cuda" else "cpu", precision="bfloat16", quick=asked.quick)
    rate = matrix_rate(setting)
    lines = [["model", "way", "rows/s", "tokens/s", "TFLOP/s", "share of the measured rate", "peak GPU MiB"]]
    with tempfile.TemporaryDirectory() as folder:
        for name in TEXTS:
            lines += text_lines(setting, Path(folder), name, rate)
        for name in CLIPS:
            lines += clip_lines(setting, Path(folder), name, rate)
    page = f"# On a GPU\n\n{described(setting, rate)}\n\n{markdown(lines)}\n"
    sys.stdout.write(page)
    if not asked.quick:
        asked.out.write_text(page)


def described(setting: Setting, rate: float) -> str:
    name = torch.cuda.get_device_name(0) if setting.device.startswith("cuda") else platform.processor() or "a CPU"
    kernels = unpadded_attention(setting.device, setting.precision) or "no flash attention installed: texts are padded"
    return (
        f"`python -m tests.benchmarks.gpu` on {name}, torch {torch.__version__}, {setting.precision}, {kernels}.\n"
        f"Measured matrix rate: {rate / 1e12:,.2f} TFLOP/s. Operations are counted by torch (matrix products, convolutions and torch's own\n"
        "attention); those that padding adds are not counted as work."
    )


def matrix_rate(setting: Setting) -> float:
    """Floating-point operations a second of one large product."""
    size = 256 if setting.quick else 8192
    a = torch.randn(size, size, device=setting.device, dtype=torch.bfloat16)
    return 2 * size**3 / seconds_for(lambda: a @ a, setting)


def seconds_for(work: Callable[[], object], setting: Setting) -> float:
    """Seconds of one call, after a first that is not counted."""
    work()
    _wait(setting)
    began, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - began < setting.seconds:
        work()
        calls += 1
        _wait(setting)
    return (time.perf_counter() - began) / calls


def _wait(setting: Setting) -> None:
    if setting.device.startswith("cuda"):
        torch.cuda.synchronize()


def text_lines(setting: Setting, folder: Path, name: str, rate: float) -> list[list[str]]:
    """The worker's own way with passages: tokenising, planned batches, vectors back on the CPU."""
    from tasks.adapters.sources.stdlib_docs import passages  # noqa: PLC0415

    path = write_text_model(folder, name, quick=setting.quick)
    texts = [passage.text for passage in passages()][: 24 if setting.quick else 20_000]
    settings = SentenceTransformersEncoder(model=str(path))
    place = RankPlacement(device=setting.device)
    encoder = open_encoder(settings, model_path=str(path), precision=setting.precision, compute=Compute(num_workers=0), place=place)
    _forget_peak(setting)
    sizes = encoder.prepare(pa.table({"text": texts})).sizes
    flops = flops_for(encoder, texts, sizes)
    found = []
    for budget in encoder.budgets()[:1] if setting.quick else encoder.budgets():
        encoder.take_budget(budget)
        took = seconds_for(lambda: encode_all(encoder, texts), setting)
        found.append(_line(name, f"{budget:,} tokens a batch", len(texts), sum(sizes), flops, took, rate, setting))
    return found


def encode_all(encoder: LoadedEncoder, texts: Sequence[str]) -> None:
    work = encoder.prepare(pa.table({"text": texts}))
    for batch in work.load(work.plan(range(len(texts))), alone=False):
        encoder.encode(batch.contents)


def flops_for(encoder: LoadedEncoder, texts: Sequence[str], sizes: Sequence[int]) -> float:
    """Of all texts, from one of the mean length: nothing of it is padding."""
    typical = min(range(len(texts)), key=lambda at: abs(sizes[at] - np.mean(sizes)))
    with FlopCounterMode(display=False) as counter:
        encoder.encode([texts[typical]])
    return counter.get_total_flops() / sizes[typical] * sum(sizes)


def clip_lines(setting: Setting, folder: Path, name: str, rate: float) -> list[list[str]]:
    """Pictures that are decoded already, then JPEGs with helper processes that decode them."""
    from tests.builders.worker.pictures import saved, scene  # noqa: PLC0415

    architecture = write_clip(folder, name, quick=setting.quick)
    settings, compute = OpenClipEncoder(architecture=architecture), Compute(num_workers=0 if setting.quick else "auto")
    place = RankPlacement(device=setting.device)
    encoder = open_encoder(settings, model_path="", precision=setting.precision, compute=compute, place=place)
    encoder.start()
    _forget_peak(setting)
    jpegs = [saved(scene(seed, 640, 480), "JPEG") for seed in range(8)] * (1 if setting.quick else 512)
    rows = pa.table({"image": pa.array(jpegs, pa.large_binary()), "image_uri": pa.nulls(len(jpegs), pa.string())})
    work = encoder.prepare(rows)
    batches = work.plan(range(len(jpegs)))
    ready = [batch.contents for batch in work.load(batches[:1], alone=True)]
    with FlopCounterMode(display=False) as counter:
        encoder.encode(ready[0][:1])
    flops = float(counter.get_total_flops())

    def from_jpegs() -> None:
        for batch in work.load(batches, alone=False):
            encoder.encode(batch.contents)

    try:
        decoded = seconds_for(lambda: encoder.encode(ready[0]), setting)
        whole = seconds_for(from_jpegs, setting)
    finally:
        encoder.close()
    count = len(ready[0])
    return [
        _line(name, "decoded already", count, None, flops * count, decoded, rate, setting),
        _line(name, "JPEGs of 640 x 480", len(jpegs), None, flops * len(jpegs), whole, rate, setting),
    ]


def _forget_peak(setting: Setting) -> None:
    if setting.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def _line(name: str, way: str, rows: int, tokens: int | None, flops: float, took: float, rate: float, setting: Setting) -> list[str]:
    peak = f"{torch.cuda.max_memory_allocated() / 2**20:,.0f}" if setting.device.startswith("cuda") else ""
    told: list[Any] = [name, way, f"{rows / took:,.0f}", f"{tokens / took:,.0f}" if tokens else ""]
    return [*told, f"{flops / took / 1e12:,.2f}", f"{flops / took / rate:.0%}", peak]


if __name__ == "__main__":
    main()
