"""Measurements of an encoder on one kind of machine: the best backend and batch size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.shards.layout import encoder_pins
from tasks.domain.strict import Strict

GAIN = 1.03  # a smaller gain is noise
Backend = Literal["torch", "openvino"]
LLM_INT8 = "LLM.int8"  # how torch computes int8: of which a corpus keeps no model


class Tuning(Strict):
    """Kept with the checkpoint, so that the next run on such a machine measures nothing. Vectors do not depend on it."""

    format_version: Literal[1] = 1
    backend: Backend = "torch"
    batch_tokens: int | None = Field(None, description="Tokens in one batch, padding counted; None: nothing was measured.")
    note: str = Field("", description="What was measured, in words.")


class KeptSettings(Strict):
    """What `kitestring tune --apply` found best on one kind of machine; a run takes of it what its job leaves to `auto`.

    Vectors do not depend on it: a precision is no part of it.
    """

    format_version: Literal[1] = 1
    processes: int
    threads: int
    batch_rows: int | None = None
    num_workers: int | None = None
    pin_memory: bool | None = None
    tuning: Tuning


def kept_settings_key(corpus: str, declared: str, machine: str) -> str:
    """Key of `KeptSettings` in the checkpoint store; the arguments are those of `tuning_key`."""
    return f"{encoder_pins(corpus)}{declared}-{machine}-tuned.json"


def int8_backend(wanted: Literal["auto"] | Backend, device: str) -> Backend:
    """What computes int8: OpenVINO on CPUs, torch on GPUs, unless the job says so."""
    if wanted != "auto":
        return wanted
    return "torch" if device.startswith("cuda") else "openvino"


def quantized_key(corpus: str, declared: str) -> str:
    """Key of a corpus' quantised model in the checkpoint store."""
    return f"{encoder_pins(corpus)}{declared}-int8.zip"


def tuning_key(corpus: str, declared: str, machine: str) -> str:
    """Key of a tuning in the checkpoint store.

    Args:
        corpus: name of the corpus.
        declared: digest of the encoder as the job declares it.
        machine: digest of the hardware, of the launch and of the libraries.
    """
    return f"{encoder_pins(corpus)}{declared}-{machine}.json"
