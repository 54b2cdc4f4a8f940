"""Measures the utilization of this machine's CPUs and GPUs while rows are encoded."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from tasks.adapters.processes.gpu_usage import GpuMeter
from tasks.adapters.processes.hardware import cores, cpu_name
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.report.figures import DeviceWork


@dataclass(slots=True)
class _Samples:
    """Sums over the samples of one device."""

    name: str
    count: int = 0
    busy: float = 0.0
    memory: int = 0  # largest


class DeviceMeter:
    """Listens to a run's snapshots, and samples the devices while it encodes."""

    def __init__(self) -> None:
        self._gpus, self._cards = GpuMeter(), dict[int, _Samples]()
        self._cpu = _Samples(f"{cpu_name()}, {cores()} cores")
        psutil.cpu_percent()  # starts the interval that the next call measures

    def __call__(self, now: Snapshot) -> None:
        share = psutil.cpu_percent() / 100 * (os.cpu_count() or 1) / cores()
        if now.phase not in {"encode", "load"} or now.encoding.hosts or not now.encoding.rows:
            return
        self._note(self._cpu, min(1.0, share), 0)
        for card in self._gpus.look():
            self._note(self._cards.setdefault(card.index, _Samples(card.name)), card.utilization, card.memory_bytes)

    def _note(self, samples: _Samples, busy: float, memory: int) -> None:
        samples.count, samples.busy, samples.memory = samples.count + 1, samples.busy + busy, max(samples.memory, memory)

    def work(self, encoding: EncodingProgress, device: str) -> tuple[DeviceWork, ...]:
        """The work of each device. Ranks use the GPUs round-robin; all CPUs count as one device, whatever the number of ranks.

        Omits GPUs that cannot be sampled: their rows are not attributed to the CPUs.
        """
        return tuple(self._work(encoding, device)) if encoding.rows and not encoding.hosts else ()

    def _work(self, encoding: EncodingProgress, device: str) -> Iterator[DeviceWork]:
        if not device.startswith("cuda"):
            yield _figures(self._cpu, encoding.rows, encoding.tokens, encoding.seconds)
            return
        cards = sorted(self._cards.items())
        for place, (_, card) in enumerate(cards):
            tokens = sum(work.tokens for work in encoding.work if work.rank % len(cards) == place)
            rows = sum(work.rows for work in encoding.work if work.rank % len(cards) == place)
            yield _figures(card, rows, tokens, encoding.seconds)


def _figures(samples: _Samples, rows: int, tokens: int, seconds: float) -> DeviceWork:
    return DeviceWork(
        host=socket.gethostname(),
        name=samples.name,
        utilization=samples.busy / samples.count if samples.count else None,
        memory_bytes=samples.memory,
        rows_per_second=rows / seconds if seconds else None,
        tokens_per_second=tokens / seconds if seconds and tokens else None,
    )
