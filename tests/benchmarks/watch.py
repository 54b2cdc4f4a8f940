"""A command under observation: how long it took, and the most memory that each kind of its processes ever held.

Memory is PSS: what a process has to itself and its share of what it shares, so that sums mean something.
"""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MEBI = 1 << 20


class CommandFailed(Exception):
    """A contender that did not come to its end; says what it said last."""


@dataclass(slots=True)
class Peaks:
    """MiB. `whole` is the highest sum at one moment, which is less than the sum of the peaks."""

    by_kind: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0

    def take(self, held: Mapping[str, float]) -> None:
        for kind, mebibytes in held.items():
            self.by_kind[kind] = max(self.by_kind.get(kind, 0.0), mebibytes)
        self.whole = max(self.whole, sum(held.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How a command went."""

    seconds: float
    cpu_seconds: float  # of all its processes: tells how much of `seconds` other programs had
    peaks: Peaks


def watch(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], every: float = 5.0, limit: float = 1800.0) -> Watched:
    """Run a command to its end.

    Raises:
        CommandFailed: it ended with another status than 0, or took longer than `limit` seconds.
    """
    said = cwd / "said.txt"
    peaks, over = Peaks(), threading.Event()
    began, before = time.monotonic(), _cpu_of_children()
    with said.open("wb") as out, subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=out, stderr=out) as process:
        sampler = threading.Thread(target=_sample, args=(process.pid, peaks, over, every), daemon=True)
        sampler.start()
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()  # what it has started ends with it: that is the guard's work
            status = None
        seconds = time.monotonic() - began
        over.set()
        sampler.join()
    if status != 0:
        raise CommandFailed(f"{' '.join(command)} ended with {status}:\n{said.read_text(errors='replace')[-3000:]}")
    return Watched(seconds=seconds, cpu_seconds=_cpu_of_children() - before, peaks=peaks)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sample(root: int, peaks: Peaks, over: threading.Event, every: float) -> None:
    while not over.wait(every):
        peaks.take(held_by(root))


def held_by(root: int) -> dict[str, float]:
    """MiB by kind of process, now."""
    held: dict[str, float] = {}
    try:
        processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return held
    for process in processes:
        try:
            kind = kind_of(process.cmdline(), process.name(), process.environ(), is_root=process.pid == root)
            held[kind] = held.get(kind, 0.0) + process.memory_full_info().pss / MEBI
        except (psutil.Error, OSError):  # it has just ended
            continue
    return held


def kind_of(command: Sequence[str], name: str, environment: Mapping[str, str], *, is_root: bool) -> str:
    """What a process of a run is."""
    if is_root:
        return "flow"
    if name.startswith("ks-rank-"):
        return f"rank {name.rpartition('-')[2]}"
    if "tasks.adapters.processes.process_guard" in command:
        return "guard"
    if "torch.distributed.run" in command or "tasks.worker.agent" in command:
        return "agent"
    if "tests.benchmarks.ranks_alone" in command:
        return f"rank {environment.get('RANK', '?')}"
    if "uvicorn" in command:
        return "Prefect server"
    return "other"
