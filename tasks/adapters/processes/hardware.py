"""Detects this machine's CPU cores, GPUs and limits without loading torch."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import JsonValue

from tasks.domain.digest import digest
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Compute, Job

CPU_INFO, OWN_STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # a quota and its period, in cgroups of version 2 and 1
MACHINE_LIBRARIES = ("torch", "transformers", "sentence-transformers", "openvino")
MOST_CPU_RANKS = 8  # with more, ranks are limited by memory bandwidth rather than cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The number of ranks of a launch, and the resources of each."""

    ranks: int
    threads: int
    device: str


def cores() -> int:
    """CPU cores that this process may use: its affinity, bounded by the quota of a container or service."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores that the cgroups allow, from this process's own to the root; the smallest applies."""
    try:
        entries = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        entries = []
    for entry in [*entries, "0::/", "1:cpu:/"]:  # in a container its own cgroup may be mounted as the root
        _, controllers, place = entry.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        own = root / place.lstrip("/")
        yield from (quota for folder in (own, *own.parents) if folder.is_relative_to(root) and (quota := _quota(folder)))


def _quota(folder: Path) -> float | None:
    for names in QUOTAS:
        try:
            limit, period = (int(number) for name in names for number in (folder / name).read_text().split())
        except (OSError, ValueError):  # the file is missing, or has "max"
            continue
        return limit / period if limit > 0 else None
    return None


def gpus() -> int:
    """The number of CUDA devices that are visible to child processes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([d for d in visible.split(",") if d.strip() and d.strip() != "-1"]) if _nvidia() else 0
    return len(_nvidia())


def _nvidia() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]


def device_names(launch: Launch) -> list[str]:
    """The identity of a launch's devices on this host: `cpu`, or a GPU's UUID."""
    if launch.device != "cuda":
        return ["cpu"]
    cards = [match[1] for line in _nvidia() if (match := re.search(r"UUID: (\S+?)\)", line))]
    visible = [d.strip() for d in os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(cards))))).split(",") if d.strip()]
    named = [cards[int(d)] if d.isdecimal() and int(d) < len(cards) else d for d in visible]
    return sorted(set(named[: launch.ranks])) or ["cuda"]


def machine(launch: Launch) -> dict[str, JsonValue]:
    """What an encoder's speed depends on, as far as it is known without loading the encoder."""
    processors = sorted(re.sub(r" \(UUID.*", "", line) for line in _nvidia()) if launch.device == "cuda" else [cpu_name()]
    return {"processors": [*processors], "launch": asdict(launch), "libraries": {name: version_of(name) for name in MACHINE_LIBRARIES}}


def machine_digest(compute: Compute, launch: Launch) -> str:
    """A digest of the hardware, the libraries and the settings that an encoder's speed depends on."""
    settings = compute.model_dump(include={"backend", "batch_tokens", "batch_rows"})
    if compute.model_parallel != "off":  # added later: results stored before it stay valid
        settings["model_parallel"] = compute.model_parallel
    return digest({"machine": machine(launch), "settings": settings})


def peak_resident() -> int:
    """Peak resident memory of this process in bytes; 0 if the system does not report it. `ru_maxrss` would include its parent's."""
    try:
        lines = OWN_STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def cpu_name() -> str:
    """The processor's name, or its architecture if the system does not report a name."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def version_of(library: str) -> str | None:
    """The installed version of a library; None if it is not installed, which Kitestring itself need not be in a checkout."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def launch_for(job: Job) -> Launch:
    """The launch of a job's encoder."""
    return plan_launch(job.compute, needs_torch=ENCODERS[job.encoder.kind].needs_torch)


def plan_launch(compute: Compute, *, needs_torch: bool = True) -> Launch:
    """Resolve every `auto` that the launcher needs. An encoder without torch never uses a GPU (`place_rank`).

    On CPUs the cores are divided among the ranks: torchrun's default of one thread each would leave
    cores idle with few ranks, and torch's default of all cores would have ranks compete for them.
    """
    cards = gpus() if needs_torch and compute.device != "cpu" else 0
    device = "cuda" if cards or (needs_torch and compute.device == "cuda") else "cpu"
    ranks = compute.processes if compute.processes != "auto" else (cards if device == "cuda" else min(cores(), MOST_CPU_RANKS))
    threads = compute.threads if compute.threads != "auto" else max(1, cores() // max(1, ranks))
    return Launch(ranks=max(1, ranks), threads=threads, device=device)
