"""A model's weights are read once, and again only when they have changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tasks.adapters.models import file_digests
from tasks.adapters.models.model_files import locate_model
from tasks.domain.job.encoder import SentenceTransformersEncoder


class Reads:
    """Counts what is hashed."""

    def __init__(self) -> None:
        self.count = 0

    def file_digest(self, opened: object, name: str) -> object:
        self.count += 1
        return hashlib.file_digest(opened, name)  # type: ignore[type-var]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reads:
    counted = Reads()
    monkeypatch.setattr(file_digests, "hashlib", counted)
    monkeypatch.setattr(file_digests, "_known", {})
    monkeypatch.setattr(file_digests, "REMEMBERED_BYTES", 10)
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", -1.0)  # what the test has just written counts as settled
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return counted


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"the weights of it")
    return folder


def weights(model: Path) -> str:
    return locate_model(SentenceTransformersEncoder(model=str(model))).weights


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digests, "_known", {})


def test_a_process_reads_a_models_files_once(reads: Reads, model: Path) -> None:
    assert weights(model) == weights(model)
    assert reads.count == 2


def test_the_next_process_does_not_read_the_large_ones_again(reads: Reads, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights(model)
    another_process(monkeypatch)
    assert weights(model) == before
    assert reads.count == 3  # config.json is small


def test_other_weights_are_seen_though_size_and_time_are_as_they_were(reads: Reads, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, file = weights(model), model / "model.safetensors"
    at = file.stat()
    file.write_bytes(b"the weights of if")
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    changed = weights(model)
    assert changed != before
    another_process(monkeypatch)
    assert weights(model) == changed


def test_what_was_written_a_moment_ago_is_not_remembered(reads: Reads, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write could bear the same time."""
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", 3600.0)
    weights(model)
    weights(model)
    assert reads.count == 4


def test_a_cache_that_is_damaged_or_cannot_be_is_none(reads: Reads, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = weights(model)
    (kept,) = (tmp_path / "cache" / "kitestring" / "digests").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_text("half")
    another_process(monkeypatch)
    assert weights(model) == before
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    another_process(monkeypatch)
    assert weights(model) == before


def test_the_model_that_an_adapter_is_laid_over_counts_and_not_where_it_is(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "modules.json").write_text("[]")
    (adapter / "adapter_model.safetensors").write_bytes(b"a little")

    def over(base: Path, **more: object) -> str:
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base), **more}))
        return weights(adapter)

    moved, other = (Path(shutil.copytree(model, tmp_path / name)) for name in ("moved", "other"))
    (other / "model.safetensors").write_bytes(b"other weights")
    assert over(model) == over(moved)
    assert len({over(model), over(other), over(model, r=8)}) == 3
