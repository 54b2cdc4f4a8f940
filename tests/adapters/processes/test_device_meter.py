"""How busy devices were, and what each did."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.adapters.processes import device_meter
from tasks.adapters.processes.device_meter import DeviceMeter
from tasks.adapters.processes.gpu_usage import GpuUsage
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.report.figures import RankWork
from tasks.domain.report.hosts import HostWork
from tests.builders.checkpoints import snapshot

WORK = (RankWork(rank=0, rows=60, tokens=600), RankWork(rank=1, rows=30, tokens=300), RankWork(rank=2, rows=10, tokens=100))
ENCODING = EncodingProgress(rows=100, tokens=1_000, seconds=2.0, work=WORK, startup={"load": 1.0})


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What psutil says at each look, in percent of all cores of a machine of four, of which two may be used."""
    said = [0.0]
    monkeypatch.setattr(device_meter.psutil, "cpu_percent", lambda: said.pop(0))
    monkeypatch.setattr(device_meter.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(device_meter, "cores", lambda: 2)
    return said


def look(meter: DeviceMeter, **changes: Any) -> None:
    meter(snapshot(encoded=changes.pop("encoded", 1), encoding=ENCODING, **changes))


def test_cpus_are_one_device_and_only_the_time_of_encoding_counts(shares: list[float]) -> None:
    shares += [50.0, 25.0, 5.0]
    meter = DeviceMeter()
    look(meter)
    look(meter)
    look(meter, stage="verify")
    (cpu,) = meter.work(ENCODING, "cpu")
    assert cpu.name.endswith(", 2 cores")
    assert (cpu.utilization, cpu.rows_per_second, cpu.tokens_per_second, cpu.memory_bytes) == (0.75, 50.0, 500.0, 0)


def test_each_gpu_has_the_rows_of_the_ranks_that_it_runs(shares: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    shares += [0.0, 0.0]
    meter = DeviceMeter()
    for busy in (0.9, 0.7):
        cards = [
            GpuUsage(index=n, name=f"card {n}", utilization=busy, memory_bytes=int(busy * 10), memory_total=80, watts=None) for n in (0, 1)
        ]
        monkeypatch.setattr(meter._gpus, "look", lambda cards=tuple(cards): cards)
        look(meter)
    first, second = meter.work(ENCODING, "cuda")
    assert (first.name, first.tokens_per_second, second.tokens_per_second) == ("card 0", 350.0, 150.0)
    assert first.utilization == pytest.approx(0.8)
    assert first.memory_bytes == 9


def test_nothing_is_said_of_devices_elsewhere_or_where_nothing_was_encoded(shares: list[float]) -> None:
    meter = DeviceMeter()
    assert meter.work(EncodingProgress(), "cpu") == ()
    assert meter.work(ENCODING.model_copy(update={"hosts": (HostWork(host="gpu1"),)}), "cpu") == ()
    (unseen,) = meter.work(ENCODING, "cpu")
    assert unseen.utilization is None
    assert meter.work(ENCODING, "cuda") == (), "GPUs that cannot be looked at are not told as CPUs"
