"""Chooses the precision. `auto` is bfloat16 if the hardware multiplies it natively and the vectors stay close, else float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tasks.adapters.processes.hardware import CPU_INFO
from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.domain.strict import Strict
from tasks.worker.base import Batch, LoadedEncoder, Vectors, Work
from tasks.worker.encoding_errors import Fatal
from tasks.worker.optimize.int8 import LOWEST_MEAN_COSINE
from tasks.worker.optimize.quality import LOWEST_COSINE, PROBE_TEXTS

SAMPLE_SECONDS = 1.0  # time limit for comparing rows
PROBED_ROWS = 8  # rows compared at once, and the minimum
CPU_FLAGS = ("avx512_bf16", "amx_bf16")
AMPERE = 8


class Decision(Strict):
    """The precision of all ranks, and the reason."""

    precision: Precision
    lowest_cosine: float | None = None
    mean_cosine: float | None = None
    note: str = ""


class Bfloat16Failed(Exception):
    """The model does not run in bfloat16."""


def native_bfloat16(device: str, cpu_info: Path = CPU_INFO) -> bool:
    """Return whether the hardware multiplies bfloat16 natively; otherwise bfloat16 is slower than float32."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - takes seconds; an encoder without torch never uses a GPU

        return torch.cuda.get_device_capability(device)[0] >= AMPERE
    try:
        flags = next((line.split() for line in cpu_info.read_text().splitlines() if line.startswith("flags")), [])
    except OSError:
        return False
    return any(flag in flags for flag in CPU_FLAGS)


def expected_precision(setting: Literal["auto"] | Precision, device: str) -> Precision:
    """Return the precision that `decide` will choose if the vectors stay close enough."""
    if setting != "auto":
        return setting
    return "bfloat16" if native_bfloat16(device) else "float32"


def decide(setting: Literal["auto"] | Precision, device: str, cosines: Callable[[], npt.NDArray[np.float64]]) -> Decision:
    """Decide on the precision.

    Args:
        setting: `encoder.precision` of the job.
        device: where the model runs.
        cosines: returns the cosine of each sampled row's bfloat16 vector to its float32 vector; raises `Bfloat16Failed`.
    """
    if setting != "auto":
        return Decision(precision=setting, note=f"{setting}: as the job says")
    if not native_bfloat16(device):
        return Decision(precision="float32", note="float32: this hardware does not multiply bfloat16 natively")
    try:
        measured = cosines()
    except Bfloat16Failed as error:
        return Decision(precision="float32", note=f"float32: the model does not run in bfloat16 ({error})")
    if not len(measured):
        return Decision(precision="float32", note="float32: there was no sample to compare bfloat16 on")
    lowest, mean = float(measured.min()), float(measured.mean())
    near = lowest >= LOWEST_COSINE
    return Decision(
        precision="bfloat16" if near else "float32",
        lowest_cosine=lowest,
        mean_cosine=mean,
        note=f"{'bfloat16' if near else 'float32'}: bfloat16's lowest cosine to float32 is {lowest:.5f} over {len(measured)} rows"
        + ("" if near else f", below {LOWEST_COSINE}"),
    )


def decide_eight_bits(precision: Precision, cosines: npt.NDArray[np.float64], reason: str = "there was no sample") -> Decision:
    """Return the job's int8 or float8 with its cosines on a sample. `reason`: why there are no cosines.

    Raises:
        BadInput: the vectors differ too much from float32's.
    """
    if not len(cosines):
        return Decision(precision=precision, note=f"{precision}: as the job says; {reason} to compare with float32")
    lowest, mean = float(cosines.min()), float(cosines.mean())
    if mean < LOWEST_MEAN_COSINE:
        raise BadInput(
            f"encoder.precision {precision}: vectors differ too much from float32's (mean cosine {mean:.3f} on a sample): use float32"
        )
    note = f"{precision}: as the job says; cosine to float32: lowest {lowest:.4f}, mean {mean:.4f} of {len(cosines)} rows"
    return Decision(precision=precision, lowest_cosine=lowest, mean_cosine=mean, note=note)


class Encodes(Protocol):
    """Anything with `LoadedEncoder.encode`."""

    def encode(self, contents: Sequence[Any]) -> Vectors:
        """See `LoadedEncoder.encode`."""


def sample_cosines(exact: LoadedEncoder, fast: Encodes, sample: Callable[[LoadedEncoder], Work]) -> npt.NDArray[np.float64]:
    """Return the cosines of two encoders' vectors on as much of a sample as a second allows. Skips rows that cannot be embedded."""
    work, cosines = sample(exact), []
    began = time.perf_counter()
    for at in range(0, len(work.sizes), PROBED_ROWS):
        rows = list(range(at, min(at + PROBED_ROWS, len(work.sizes))))
        for batch in work.load([rows], alone=True):
            cosines.extend(_batch_cosines(exact, fast, batch))
        if time.perf_counter() - began > SAMPLE_SECONDS:
            break
    return np.concatenate(cosines) if cosines else np.zeros(0)


def query_cosines(exact: LoadedEncoder, fast: LoadedEncoder) -> npt.NDArray[np.float64]:
    """Return the cosines for text queries; none if the encoder cannot embed queries even in float32, as without a tokenizer."""
    try:
        reference = exact.embed_queries(PROBE_TEXTS)
    except Fatal:
        raise
    except Exception:  # noqa: BLE001 - a search will report it
        return np.zeros(0)
    known = reference.any(axis=1)
    return _cosines(reference, fast.embed_queries(PROBE_TEXTS))[known]


def _batch_cosines(exact: LoadedEncoder, fast: Encodes, batch: Batch) -> list[npt.NDArray[np.float64]]:
    """Return the cosines of a batch; none if the model fails on it even in float32, for example because of a bad row."""
    if not batch.contents:
        return []
    try:
        reference = exact.encode(batch.contents)
    except Fatal:
        raise
    except Exception:  # noqa: BLE001 - encoding will quarantine the bad row later
        return []
    sound = np.isfinite(reference).all(axis=1)
    return [_cosines(reference, fast.encode(batch.contents))[sound]]


def _cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (wide_a * wide_b).sum(axis=1) / lengths
    return np.asarray(np.nan_to_num(cosines, nan=0.0))
