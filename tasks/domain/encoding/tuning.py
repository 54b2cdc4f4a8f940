"""Measurements of an encoder on one kind of machine: the best backend and batch size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.shards.layout import encoder_pins
from tasks.domain.strict import Strict

GAIN = 1.03  # a smaller gain is noise
Backend = Literal["torch", "openvino"]
LLM_INT8 = "LLM.int8"  # torch's int8, which stores no quantised model for the corpus


class Tuning(Strict):
    """Measured settings, stored in the checkpoint so that later runs on such a machine skip measuring. Vectors do not depend on them."""

    format_version: Literal[1] = 1
    backend: Backend = "torch"
    batch_tokens: int | None = Field(None, description="Tokens in one batch, with padding; None: not measured.")
    note: str = Field("", description="The measurements, for people.")


class KeptSettings(Strict):
    """The best settings of `kitestring tune --apply` on one kind of machine; a run uses those that its job leaves at `auto`.

    Vectors do not depend on them: they do not include a precision.
    """

    format_version: Literal[1] = 1
    processes: int
    threads: int
    batch_rows: int | None = None
    num_workers: int | None = None
    pin_memory: bool | None = None
    tuning: Tuning


def kept_settings_key(corpus: str, declared: str, machine: str) -> str:
    """Return the key of `KeptSettings` in the checkpoint store; arguments as for `tuning_key`."""
    return f"{encoder_pins(corpus)}{declared}-{machine}-tuned.json"


def int8_backend(setting: Literal["auto"] | Backend, device: str) -> Backend:
    """Return the backend for int8: the job's, or with `auto` OpenVINO on CPUs and torch on GPUs."""
    if setting != "auto":
        return setting
    return "torch" if device.startswith("cuda") else "openvino"


def quantized_key(corpus: str, declared: str) -> str:
    """Return the key of a corpus' quantised model in the checkpoint store."""
    return f"{encoder_pins(corpus)}{declared}-int8.zip"


def tuning_key(corpus: str, declared: str, machine: str) -> str:
    """Return the key of a tuning in the checkpoint store.

    Args:
        corpus: name of the corpus.
        declared: digest of the encoder as the job declares it.
        machine: digest of the hardware, the launch and the libraries.
    """
    return f"{encoder_pins(corpus)}{declared}-{machine}.json"
