"""How busy this machine's processors were while rows were encoded."""

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
class _Seen:
    """Of one device, over the looks so far."""

    name: str
    looks: int = 0
    busy: float = 0.0
    memory: int = 0


class DeviceMeter:
    """Listens to a run, and looks at the devices each time that it is encoding."""

    def __init__(self) -> None:
        self._gpus, self._cards = GpuMeter(), dict[int, _Seen]()
        self._cpu = _Seen(f"{cpu_name()}, {cores()} cores")
        psutil.cpu_percent()  # counts from here to the next call

    def __call__(self, now: Snapshot) -> None:
        share = psutil.cpu_percent() / 100 * (os.cpu_count() or 1) / cores()
        if now.phase not in {"encode", "load"} or now.encoding.hosts or not now.encoding.rows:
            return
        self._note(self._cpu, min(1.0, share), 0)
        for card in self._gpus.look():
            self._note(self._cards.setdefault(card.index, _Seen(card.name)), card.utilization, card.memory_bytes)

    def _note(self, seen: _Seen, busy: float, memory: int) -> None:
        seen.looks, seen.busy, seen.memory = seen.looks + 1, seen.busy + busy, max(seen.memory, memory)

    def work(self, encoding: EncodingProgress, device: str) -> tuple[DeviceWork, ...]:
        """What each did. Rank by rank they take the GPUs in turn; CPUs are one device, whatever the number of ranks.

        Of GPUs that cannot be looked at nothing is said: the CPUs did not encode their rows.
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


def _figures(seen: _Seen, rows: int, tokens: int, seconds: float) -> DeviceWork:
    return DeviceWork(
        host=socket.gethostname(),
        name=seen.name,
        utilization=seen.busy / seen.looks if seen.looks else None,
        memory_bytes=seen.memory,
        rows_per_second=rows / seconds if seconds else None,
        tokens_per_second=tokens / seconds if seconds and tokens else None,
    )
