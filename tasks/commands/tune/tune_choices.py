"""The choices of a sweep for a job on this machine, and the settings that it begins with."""

from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

from tasks.adapters.processes.hardware import cores
from tasks.commands.tune.tune_bench import TuneBench
from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tune.sweep import SweepChoices
from tasks.domain.encoding.tune.trials import TrialSettings
from tasks.domain.encoding.tuning import Backend, int8_backend
from tasks.domain.job.encoder import ENCODERS

CPU_BATCHES = (256, 512, 1024, 2048, 4096, 8192, 16_384)  # tokens
GPU_BATCHES = tuple(1 << power for power in range(13, 23))
CPU_BATCH_ROWS, GPU_BATCH_ROWS = (4, 8, 16, 32, 64, 128, 256), (32, 64, 128, 256, 512, 1024, 2048)
USUAL_TOKENS_OF = {"cpu": 1024, "cuda": 32_768}  # the default of text encoders before any measurement
USUAL_ROWS_OF = {"cpu": 16, "cuda": 256}  # the default of picture encoders


def start_of(bench: TuneBench) -> TrialSettings:
    """The job's own settings; for `auto`, those of a run before any measurement."""
    compute, device = bench.job.compute, bench.launch.device
    by_tokens = ENCODERS[bench.job.encoder.kind].counts_tokens
    images = bench.job.source.modality == "image"
    return TrialSettings(
        processes=bench.launch.ranks,
        threads=bench.launch.threads,
        backend=_first_backend(bench),
        batch_tokens=_or(compute.batch_tokens, USUAL_TOKENS_OF[device]) if by_tokens else None,
        batch_rows=None if by_tokens else _or(compute.batch_rows, USUAL_ROWS_OF[device]),
        num_workers=_or(compute.num_workers, 0 if device == "cpu" else _spare(bench.launch.ranks)) if images else None,
        pin_memory=(compute.pin_memory is True or (compute.pin_memory == "auto" and device == "cuda")) if images else None,
    )


def choices_for(bench: TuneBench) -> SweepChoices:
    """Everything that this machine and the encoder's kind support."""
    kind, device, images = ENCODERS[bench.job.encoder.kind], bench.launch.device, bench.job.source.modality == "image"
    openvino = not _shares(bench) and "openvino" in kind.backends and device == "cpu" and find_spec("openvino") is not None
    tokens, rows = (CPU_BATCHES, CPU_BATCH_ROWS) if device == "cpu" else (GPU_BATCHES, GPU_BATCH_ROWS)
    most = _spare(bench.launch.ranks) + 1
    return SweepChoices(
        backends=("torch", "openvino") if openvino and bench.job.encoder.precision != "int8" else (),
        ranks=_ranks(bench),
        batches=tokens if kind.counts_tokens else rows,
        workers=tuple(dict.fromkeys((0, 1, most // 2, most))) if images else (),
        pinned=(False, True) if images and device == "cuda" else (),
        precisions=_precisions(bench, int8=openvino and find_spec("nncf") is not None),
        int8_by=int8_backend("auto", device),
        memory=bench.memory,
    )


def _ranks(bench: TuneBench) -> list[tuple[int, int]]:
    """Ranks and threads: on CPUs cores divided by powers of two; on GPUs one or two ranks each; as the job says if ranks share a model."""
    if _shares(bench):
        return [(bench.launch.ranks, bench.launch.threads)]
    if bench.launch.device == "cuda":
        return [(bench.launch.ranks, bench.launch.threads), (2 * bench.launch.ranks, max(1, bench.launch.threads // 2))]
    choices, ranks = [], 1
    while ranks <= cores():
        choices.append((ranks, cores() // ranks))
        ranks *= 2
    return choices


def _precisions(bench: TuneBench, *, int8: bool) -> tuple[Precision, ...]:
    """The precisions to try. `int8`: whether OpenVINO supports it here.

    On GPUs 8 bits are included if the encoder's kind supports them and ranks do not share the model; on a too old GPU the trial fails.
    """
    known = get_args(type(bench.job.encoder).model_fields["precision"].annotation)
    if bench.launch.device != "cuda":
        return ("float32", "bfloat16", "int8") if int8 else ("float32", "bfloat16")
    eight_bits: tuple[Precision, ...] = ("int8", "float8") if find_spec("bitsandbytes") else ("float8",)
    return ("float32", "bfloat16", "float16", *(precision for precision in eight_bits if precision in known and not _shares(bench)))


def _first_backend(bench: TuneBench) -> Backend:
    """The backend before any measurement: torch, or for int8 the only one that supports it."""
    if bench.job.compute.backend != "auto":
        return bench.job.compute.backend
    return int8_backend("auto", bench.launch.device) if bench.job.encoder.precision == "int8" else "torch"


def _shares(bench: TuneBench) -> bool:
    return bench.job.compute.model_parallel != "off"


def _spare(ranks: int) -> int:
    """Cores of a rank in addition to the one that feeds the model."""
    return max(0, cores() // max(1, ranks) - 1)


def _or(value: object, usual: int) -> int:
    return value if isinstance(value, int) else usual
