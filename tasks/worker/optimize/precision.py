"""`precision: auto`: bfloat16 where the hardware multiplies it and the vectors hardly move, else float32."""

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
from tasks.worker.optimize.int8 import LEAST_MEAN
from tasks.worker.optimize.quality import LOWEST_COSINE, PROBE_TEXTS

SAMPLE_SECONDS = 1.0  # after which no more rows are compared
PROBED_ROWS = 8  # rows that are compared at once, and at least
CPU_FLAGS = ("avx512_bf16", "amx_bf16")
AMPERE = 8


class Decision(Strict):
    """The precision of every rank, and why."""

    precision: Precision
    lowest_cosine: float | None = None
    mean_cosine: float | None = None
    note: str = ""


class FasterFailed(Exception):
    """The model does not run in bfloat16."""


def native_bfloat16(device: str, cpu_info: Path = CPU_INFO) -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is slower than float32."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - takes seconds; an encoder without it is on no GPU

        return torch.cuda.get_device_capability(device)[0] >= AMPERE
    try:
        flags = next((line.split() for line in cpu_info.read_text().splitlines() if line.startswith("flags")), [])
    except OSError:
        return False
    return any(flag in flags for flag in CPU_FLAGS)


def expected(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    """What a decision will be, unless the vectors move too far."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if native_bfloat16(device) else "float32"


def decide(wanted: Literal["auto"] | Precision, device: str, cosines: Callable[[], npt.NDArray[np.float64]]) -> Decision:
    """Settle the precision.

    Args:
        wanted: as the job says it.
        device: where the model runs.
        cosines: makes the comparison: the cosine of each sampled row's bfloat16 vector to its float32 vector; or raises `FasterFailed`.
    """
    if wanted != "auto":
        return Decision(precision=wanted, note=f"{wanted}: as the job says")
    if not native_bfloat16(device):
        return Decision(precision="float32", note="float32: this hardware does not multiply bfloat16 natively")
    try:
        found = cosines()
    except FasterFailed as error:
        return Decision(precision="float32", note=f"float32: the model does not run in bfloat16 ({error})")
    if not len(found):
        return Decision(precision="float32", note="float32: there was no sample to compare bfloat16 on")
    lowest, mean = float(found.min()), float(found.mean())
    near = lowest >= LOWEST_COSINE
    return Decision(
        precision="bfloat16" if near else "float32",
        lowest_cosine=lowest,
        mean_cosine=mean,
        note=f"{'bfloat16' if near else 'float32'}: bfloat16's lowest cosine to float32 is {lowest:.5f} over {len(found)} rows"
        + ("" if near else f", below {LOWEST_COSINE}"),
    )


def decide_eight_bits(precision: Precision, found: npt.NDArray[np.float64], why_none: str = "there was no sample") -> Decision:
    """int8 or float8 as the job says, with what it does to the vectors of a sample. `why_none`: why none was compared.

    Raises:
        BadInput: they are others.
    """
    if not len(found):
        return Decision(precision=precision, note=f"{precision}: as the job says; {why_none} to compare with float32")
    lowest, mean = float(found.min()), float(found.mean())
    if mean < LEAST_MEAN:
        raise BadInput(
            f"encoder.precision {precision}: the vectors of a sample are others (mean cosine to float32 {mean:.3f}): use float32"
        )
    told = f"{precision}: as the job says; cosine to float32 is {lowest:.4f} at the least and {mean:.4f} in the mean of {len(found)} rows"
    return Decision(precision=precision, lowest_cosine=lowest, mean_cosine=mean, note=told)


class Encodes(Protocol):
    """The reference that an encoder is compared with."""

    def encode(self, contents: Sequence[Any]) -> Vectors:
        """As `LoadedEncoder.encode`."""


def sample_cosines(exact: LoadedEncoder, fast: Encodes, sample: Callable[[LoadedEncoder], Work]) -> npt.NDArray[np.float64]:
    """Compare two encoders on as much of a sample as a second allows. Rows that cannot be embedded are left out."""
    work, found = sample(exact), []
    began = time.perf_counter()
    for at in range(0, len(work.sizes), PROBED_ROWS):
        rows = list(range(at, min(at + PROBED_ROWS, len(work.sizes))))
        for batch in work.load([rows], alone=True):
            found.extend(_compared(exact, fast, batch))
        if time.perf_counter() - began > SAMPLE_SECONDS:
            break
    return np.concatenate(found) if found else np.zeros(0)


def question_cosines(exact: LoadedEncoder, fast: LoadedEncoder) -> npt.NDArray[np.float64]:
    """Likewise for questions in words. None where the encoder cannot be asked any even in float32, as without its tokenizer."""
    try:
        reference = exact.embed_queries(PROBE_TEXTS)
    except Fatal:
        raise
    except Exception:  # noqa: BLE001 - a search will say so
        return np.zeros(0)
    known = reference.any(axis=1)
    return _cosines(reference, fast.embed_queries(PROBE_TEXTS))[known]


def _compared(exact: LoadedEncoder, fast: Encodes, batch: Batch) -> list[npt.NDArray[np.float64]]:
    """The cosines of a batch; none where the model fails on it even in float32, as a bad row makes it do."""
    if not batch.contents:
        return []
    try:
        reference = exact.encode(batch.contents)
    except Fatal:
        raise
    except Exception:  # noqa: BLE001 - the row will be found and set aside when its turn comes
        return []
    sound = np.isfinite(reference).all(axis=1)
    return [_cosines(reference, fast.encode(batch.contents))[sound]]


def _cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (wide_a * wide_b).sum(axis=1) / lengths
    return np.asarray(np.nan_to_num(cosines, nan=0.0))
