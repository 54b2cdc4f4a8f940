"""Weights that two ranks hold together: the vectors are those of the whole model, whoever has work and whatever fails."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.worker.system.memory import forget
from tests.builders.worker.varlen import write_model


@pytest.fixture(params=["the tiny one", "qwen3"])
def model(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """A model that looks both ways, and one of the kind that is larger than a card: its heads are shared, its texts padded on the left."""
    if request.param == "the tiny one":
        return tiny_model
    return write_model(tmp_path / "model", request.param, tiny_model, pooling="pooling_mode_lasttoken", padding="left")


def test_two_ranks_hold_half_each_and_embed_as_the_whole_model_does(tmp_path: Path, model: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.builders.worker.shared_ranks", str(model), str(tmp_path)]
    ran = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["held"] + second["held"] == first["all"]
    assert first["held"] <= 0.55 * first["all"]
    assert min(first["alone"], first["together"], second["together"]) >= 0.99999
    assert first["failed"] == first["layers"] > 1  # one in each layer, and the ranks were in step afterwards


def test_pages_of_a_mapped_file_are_dropped_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 4096)
    mapped = np.memmap(path, mode="r")
    before = int(mapped.sum(dtype=np.int64))
    held = resident(path)
    forget(mapped.ctypes.data, mapped.nbytes)
    assert held >= mapped.nbytes - mmap.PAGESIZE
    assert resident(path) <= mmap.PAGESIZE
    assert int(mapped.sum(dtype=np.int64)) == before


def resident(path: Path) -> int:
    """Bytes of a file that this process has mapped and in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return next(1024 * int(line.split()[1]) for line in lines[at:] if line.startswith("Rss:"))
