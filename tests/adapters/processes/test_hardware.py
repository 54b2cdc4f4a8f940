"""What a measurement of an encoder is kept under."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.processes import hardware
from tasks.adapters.processes.hardware import Launch, cores, machine, plan_launch
from tasks.adapters.processes.torchrun import _environment
from tasks.adapters.sources.registry import open_source, rows_at_least
from tasks.domain.job.job import Compute
from tasks.domain.job.source import JsonLinesSource, ParquetSource
from tests.builders.kitestring import write_rows

LAUNCH = Launch(ranks=2, threads=1, device="cpu")


def test_another_processor_launch_or_library_is_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some Processor\n")
    monkeypatch.setattr(hardware, "CPU_INFO", info)
    found = machine(LAUNCH)
    assert found["processors"] == ["Some Processor"]
    assert found == machine(LAUNCH)
    assert found != machine(Launch(ranks=1, threads=2, device="cpu"))
    monkeypatch.setattr(hardware, "version", lambda name: f"{name} of tomorrow")
    assert found != machine(LAUNCH)


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host of 64 cores without a quota."""
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path / "sys")
    monkeypatch.setattr(hardware, "OWN_CGROUPS", tmp_path / "own")
    return tmp_path / "sys"


def note(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_containers_quota_counts_as_its_cores(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores() == 64
    note(cgroups / "cpu.max", "max 100000\n")
    assert cores() == 64
    note(cgroups / "cpu.max", "350000 100000\n")
    assert cores() == 4
    assert plan_launch(Compute(device="cpu")) == Launch(ranks=4, threads=1, device="cpu")
    with monkeypatch.context() as many:
        many.setattr("tasks.adapters.processes.hardware.gpus", lambda: 8)
        assert plan_launch(Compute()).ranks == 8
        for device in ("auto", "cuda"):  # an encoder without torch is on none of them
            assert plan_launch(Compute(device=device), needs_torch=False) == Launch(ranks=4, threads=1, device="cpu")
    note(cgroups / "cpu.max", "5000 100000\n")
    assert cores() == 1


def test_the_least_quota_on_the_way_to_the_root_counts(cgroups: Path) -> None:
    """A service's own, which has no mount of its own, and those of the slices that it is in."""
    note(cgroups.parent / "own", "1:memory:/elsewhere\n0::/batch.slice/job.service\n")
    note(cgroups / "batch.slice" / "cpu.max", "300000 100000\n")
    note(cgroups / "batch.slice" / "job.service" / "cpu.max", "800000 100000\n")
    note(cgroups / "elsewhere" / "cpu.max", "100000 100000\n")
    assert cores() == 3


@pytest.mark.parametrize("own", ["", "4:cpu,cpuacct:/\n", "4:cpu,cpuacct:/docker/abc\n"])
def test_quotas_of_the_first_version_count_too(cgroups: Path, own: str) -> None:
    """`/docker/abc`: the host's path, while the container's own is mounted as the root."""
    note(cgroups.parent / "own", own)
    note(cgroups / "cpu" / "cpu.cfs_period_us", "100000\n")
    note(cgroups / "cpu" / "cpu.cfs_quota_us", "-1\n")
    assert cores() == 64
    note(cgroups / "cpu" / "cpu.cfs_quota_us", "200000\n")
    assert cores() == 2


def test_two_cards_of_a_kind_are_two_machines_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_nvidia", lambda: ["GPU 0: Card (UUID: GPU-1)", "GPU 1: Card (UUID: GPU-2)"])
    assert machine(Launch(ranks=2, threads=4, device="cuda"))["processors"] == ["GPU 0: Card", "GPU 1: Card"]


def test_only_a_gpus_texts_are_tokenised_by_many_threads(tmp_path: Path) -> None:
    on_cpu, on_gpu = (_environment(launch, tmp_path) for launch in (LAUNCH, Launch(ranks=2, threads=8, device="cuda")))
    assert on_cpu["TOKENIZERS_PARALLELISM"] == "false"
    assert (on_gpu["TOKENIZERS_PARALLELISM"], on_gpu["RAYON_NUM_THREADS"]) == ("true", "8")


def test_rows_are_estimated_from_the_head_of_the_listing(tmp_path: Path) -> None:
    for number in range(6):
        write_rows(tmp_path / f"{number}.parquet", number * 10, number * 10 + 10)
    (tmp_path / "lines.jsonl").write_text('{"text": "some words"}\n' * 1_000)
    assert rows_at_least(open_source(ParquetSource(uri=str(tmp_path / "*.parquet"), text=["text"]), rows=10)) == 40
    assert 0 < rows_at_least(open_source(JsonLinesSource(uri=str(tmp_path / "lines.jsonl"), text=["text"]), rows=10**6)) <= 1_000
