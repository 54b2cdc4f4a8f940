"""The table of GPUs can be made when there is one: its script works with tiny models on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tests.benchmarks import gpu
from tests.benchmarks.gpu import HEAD, Setting, eight_bit_lines, kernels, text_lines
from tests.benchmarks.gpu_models import write_text_model

BUDGET = "32,768 tokens a batch"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("models"), "all-MiniLM-L6", quick=True)


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "float8"])
def test_texts_are_measured_padded_and_without_padding(bert: Path, precision: Precision) -> None:
    setting = Setting(device="cpu", precision=precision, quick=True)
    with kernels(setting):
        lines = text_lines(setting, "a model", bert, rate=1e12)
    stock = ["stock encode"] if precision == "bfloat16" else []
    flat = f"without padding, {BUDGET}"
    assert [line[2] for line in lines] == [*stock, f"padded, {BUDGET}", flat, f"{flat}, torch's own choice of kernels"]
    assert all(len(line) == len(HEAD) and float(line[3].replace(",", "")) > 0 for line in lines)


def test_what_a_card_does_not_compute_is_a_line_that_says_why(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BadInput("float8 needs another card")

    monkeypatch.setattr(gpu, "text_lines", refused)
    (line,) = eight_bit_lines(Setting(device="cpu", precision="float8", quick=True), "a model", bert, rate=1e12)
    assert line[:3] == ["a model", "float8", "float8 needs another card"]
    assert len(line) == len(HEAD)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="torch finds no CUDA device here"):
        gpu.main()
