"""Encoding on a GPU: rows/s, tokens/s and the share of the card's own matrix rate, by model, precision and way.

The ways: sentence-transformers' own `encode` as it comes, Kitestring's batches with padding, and without, the last also with the kernels of
attention that torch would choose (cuDNN's on Hopper). In 8 bits, which are for texts, the library has no way of its own. Weights are
random; speed does not mind.

python -m tests.benchmarks.gpu                        # writes tests/benchmarks/gpu.md
python -m tests.benchmarks.gpu --device cpu --quick   # shows that the script works: tiny models, a few rows, attention written out
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from sentence_transformers import SentenceTransformer
from torch.utils.flop_counter import FlopCounterMode

from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders import sentence_transformers
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize import requirements, unpadded
from tasks.worker.optimize.eight_bits import loaded_in
from tasks.worker.system.placement import RankPlacement
from tests.benchmarks.gpu_models import CLIPS, TEXTS, write_clip, write_text_model
from tests.benchmarks.output import markdown
from tests.builders.worker.varlen import varlen_reference

MINIMUM_SECONDS = 5.0  # of each measurement
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float16")
EIGHT_BITS: tuple[Precision, ...] = ("int8", "float8")
HEAD = ["model", "precision", "way", "rows/s", "tokens/s", "TFLOP/s", "share of the measured rate", "peak GPU MiB"]
MARKS = """Marks to beat, as published: bge-m3 3,300 documents/s on one H100 (vLLM); a BERT-base encoder 516k tokens/s at 512 tokens;
e5-small, short texts, 45k/s on one A100; ViT-L/14 half of the 4,900 images/s that an H100's rate allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how much."""

    device: str
    precision: Precision
    quick: bool

    @property
    def seconds(self) -> float:
        return 0.0 if self.quick else MINIMUM_SECONDS

    @property
    def place(self) -> RankPlacement:
        return RankPlacement(device=self.device) if self.device.startswith("cuda") else _AsOnGpu(device=self.device)


class _AsOnGpu(RankPlacement):
    """A CPU that goes the GPU's ways."""

    @property
    def on_gpu(self) -> bool:
        return True


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
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder, kernels(setting):
        texts = {name: write_text_model(Path(folder), name, quick=setting.quick) for name in TEXTS}
        clips = {name: write_clip(Path(folder), name, quick=setting.quick) for name in CLIPS}
        for precision in PRECISIONS:
            now = replace(setting, precision=precision)
            lines += [line for name, path in texts.items() for line in text_lines(now, name, path, rate)]
            lines += [line for name, architecture in clips.items() for line in clip_lines(now, name, architecture, rate)]
        for precision in EIGHT_BITS:
            now = replace(setting, precision=precision)
            lines += [line for name, path in texts.items() for line in eight_bit_lines(now, name, path, rate)]
    page = f"# On a GPU\n\n{described(setting, rate)}\n\n{markdown(lines)}\n\n{MARKS}\n"
    sys.stdout.write(page)
    if not asked.quick:
        asked.out.write_text(page)


def described(setting: Setting, rate: float) -> str:
    name = torch.cuda.get_device_name(0) if setting.device.startswith("cuda") else platform.processor() or "a CPU"
    return (
        f"`python -m tests.benchmarks.gpu` on {name}, torch {torch.__version__}.\n"
        f"Measured matrix rate in bfloat16: {rate / 1e12:,.2f} TFLOP/s. Operations are counted by torch (matrix products, convolutions and its own\n"
        "attention, of a padded batch of one text); those that padding adds are not counted as work."
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


def eight_bit_lines(setting: Setting, name: str, path: Path, rate: float) -> list[list[str]]:
    """Likewise, or why this card or what is installed does not compute it."""
    try:
        return text_lines(setting, name, path, rate)
    except BadInput as error:
        return [[name, setting.precision, str(error), *([""] * (len(HEAD) - 3))]]


def text_lines(setting: Setting, name: str, path: Path, rate: float) -> list[list[str]]:
    """Passages: by the library alone, then the worker's own way (tokenising, planned batches, vectors back on the CPU)."""
    from tasks.adapters.sources.stdlib_docs import passages  # noqa: PLC0415

    texts = [passage.text for passage in passages()][: 24 if setting.quick else 20_000]
    counted = opened(replace(setting, precision=loaded_in(setting.precision)), path, why_padded="as asked")
    sizes = counted.prepare(pa.table({"text": texts})).sizes
    flops = flops_for(counted, texts, sizes)  # torch does not count those of 8 bits
    in_8_bits = setting.precision in EIGHT_BITS
    padded = opened(setting, path, why_padded="as asked") if in_8_bits else counted
    del counted

    def line(way: str, took: float) -> list[str]:
        return _line(name, way, len(texts), sum(sizes), flops, took, rate, setting)

    _forget_peak(setting)
    found = [] if in_8_bits else [line("stock encode", seconds_for(stock(setting, path, texts), setting))]
    found += [line(f"padded, {budget:,} tokens a batch", took) for budget, took in by_budget(setting, padded, texts)]
    del padded
    without = opened(setting, path, why_padded=None)
    note = without.facts().note
    way = "without padding" if "attention without padding" in note else note
    found += [line(f"{way}, {budget:,} tokens a batch", took) for budget, took in by_budget(setting, without, texts)]
    with patch.object(sentence_transformers, "any_shape", lambda **_: nullcontext()):
        budget, took = next(by_budget(setting, without, texts))
    return [*found, line(f"{way}, {budget:,} tokens a batch, torch's own choice of kernels", took)]


def stock(setting: Setting, path: Path, texts: list[str]) -> Callable[[], object]:
    """sentence-transformers with its defaults but for the precision: 32 texts a batch."""
    model = SentenceTransformer(str(path), device=setting.device, model_kwargs={"dtype": getattr(torch, setting.precision)})
    return lambda: model.encode(texts, show_progress_bar=False)


def opened(setting: Setting, path: Path, *, why_padded: str | None) -> LoadedEncoder:
    settings, compute = SentenceTransformersEncoder(model=str(path)), Compute(num_workers=0)
    with patch.object(sentence_transformers, "why_padded", lambda *_: why_padded):
        return open_encoder(settings, model_path=str(path), precision=setting.precision, compute=compute, place=setting.place)


def by_budget(setting: Setting, encoder: LoadedEncoder, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Tokens in a batch, and the seconds of all texts in such batches."""
    for budget in encoder.budgets()[:1] if setting.quick else encoder.budgets():
        _forget_peak(setting)
        encoder.set_batch_tokens(budget)
        yield budget, seconds_for(lambda: encode_all(encoder, texts), setting)


@contextmanager
def kernels(setting: Setting) -> Iterator[None]:
    """On a CPU attention without padding is written out, and float8 is allowed: it shows that the script works, and no speed."""
    if setting.device.startswith("cuda"):
        yield
        return
    with patch.object(unpadded, "varlen_attn", varlen_reference), patch.object(requirements, "_check_hardware", lambda *_: None):
        yield


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


def clip_lines(setting: Setting, name: str, architecture: str, rate: float) -> list[list[str]]:
    """Pictures that are decoded already, then JPEGs with helper processes that decode them."""
    from tests.builders.worker.pictures import saved, scene  # noqa: PLC0415

    settings, compute = OpenClipEncoder(architecture=architecture), Compute(num_workers=0 if setting.quick else "auto")
    encoder = open_encoder(settings, model_path="", precision=setting.precision, compute=compute, place=setting.place)
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
    told: list[Any] = [name, setting.precision, way, f"{rows / took:,.0f}", f"{tokens / took:,.0f}" if tokens else ""]
    return [*told, f"{flops / took / 1e12:,.2f}", f"{flops / took / rate:.0%}", peak]


if __name__ == "__main__":
    main()
