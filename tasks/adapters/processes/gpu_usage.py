"""Utilization, memory and power of this machine's GPUs, from NVIDIA's management library."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("kitestring.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUsage:
    """One GPU at one moment."""

    index: int
    name: str
    utilization: float  # share of the time since the last sample in which a kernel ran, 0 to 1
    memory_bytes: int
    memory_total: int
    watts: float | None  # None: the card does not report it


class GpuMeter:
    """Samples every GPU. Without a GPU, or without the library (`nvidia-ml-py`), samples are empty."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except Exception as error:  # noqa: BLE001 - no library, no driver or another version: runs work without metering
            log.debug("GPUs are not metered: %s", error)
            self._nvml = None

    def look(self) -> tuple[GpuUsage, ...]:
        """Sample all GPUs; omits one that fails to answer."""
        return tuple(self._usages()) if self._nvml else ()

    def _usages(self) -> Iterator[GpuUsage]:
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                device = nvml.nvmlDeviceGetHandleByIndex(index)
                name, memory = nvml.nvmlDeviceGetName(device), nvml.nvmlDeviceGetMemoryInfo(device)
                yield GpuUsage(
                    index=index,
                    name=name.decode() if isinstance(name, bytes) else name,
                    utilization=nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
                    memory_bytes=memory.used,
                    memory_total=memory.total,
                    watts=_watts(nvml, device),
                )
            except nvml.NVMLError as error:
                log.debug("GPU %d cannot be metered: %s", index, error)


def _watts(nvml: Any, device: object) -> float | None:
    try:
        return float(nvml.nvmlDeviceGetPowerUsage(device)) / 1_000
    except nvml.NVMLError:
        return None
