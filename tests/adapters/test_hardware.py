"""What a measurement of an encoder is kept under."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters import hardware
from tasks.adapters.hardware import Launch, machine
from tasks.adapters.launch import _environment
from tasks.adapters.sources import open_source, rows_at_least
from tasks.domain.source import JsonLinesSource, ParquetSource
from tests.flows.kitestring import write_rows

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
