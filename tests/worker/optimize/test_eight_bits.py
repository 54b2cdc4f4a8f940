"""int8 and float8 by torch: layers are exchanged, vectors stay near, and what cannot compute them says what is missing. On the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import LLM_INT8
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize import requirements
from tasks.worker.optimize.eight_bits import Float8Linear, replace_linear_layers
from tasks.worker.optimize.precision import decide, decide_eight_bits, expected_precision
from tasks.worker.system.placement import RankPlacement
from tests.builders.worker.text_encoder import embed, lowest_cosine, passages, stock

TEXTS = passages(30)
BOTH: list[Precision] = ["int8", "float8"]


@pytest.fixture
def any_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """float8 is computed on the CPU, which jobs are refused."""
    monkeypatch.setattr(requirements, "_check_hardware", lambda *_: None)


def opened(model: Path, precision: Precision, device: str = "cpu") -> LoadedEncoder:
    encoder = SentenceTransformersEncoder(model=str(model), precision="int8")
    return open_encoder(encoder, model_path=str(model), precision=precision, place=RankPlacement(device=device))


def with_capability(monkeypatch: pytest.MonkeyPatch, *found: int) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: found)


@pytest.mark.usefixtures("any_hardware")
@pytest.mark.parametrize(("precision", "how"), [("int8", LLM_INT8), ("float8", "")])
def test_every_linear_layer_computes_in_8_bits_near_to_float32(tiny_model: Path, precision: Precision, how: str) -> None:
    encoder = opened(tiny_model, precision)
    model: Any = encoder._model  # type: ignore[attr-defined]
    kinds = [type(layer).__name__ for layer in model.modules() if "Linear" in type(layer).__name__]
    assert set(kinds) == {"Linear8bitLt" if precision == "int8" else "Float8Linear"}
    weights = [layer.weight.dtype for layer in model.modules() if "Linear" in type(layer).__name__]
    assert set(weights) == {torch.int8 if precision == "int8" else torch.float8_e4m3fn}
    facts = encoder.facts()
    assert (facts.precision, facts.quantized) == (precision, how)
    assert f"{len(kinds)} of {len(kinds)} linear layers in {how or precision}" in facts.note
    lowest = lowest_cosine(embed(encoder, TEXTS), stock(tiny_model, TEXTS))
    assert 0.99 < lowest < 0.99999  # it is not float32 either


def test_float8_has_a_scale_for_each_token_and_each_output() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(32, 48)
    with torch.no_grad():
        linear.weight *= torch.logspace(-3, 3, 48)[:, None]
    given = torch.randn(2, 3, 32) * torch.tensor([1e-3, 1.0, 1e3])[None, :, None]
    given[0, 0] = 0
    exact, found = linear(given), Float8Linear(linear)(given)
    error = (found - exact).abs() / (given.norm(dim=-1, keepdim=True) * linear.weight.norm(dim=1) + linear.bias.abs() + 1e-9)
    assert float(error.detach().max()) < 0.03
    assert torch.equal(Float8Linear(linear)(given[1:, 2:]), found[1:, 2:])  # of one token, whatever is beside it


def test_layers_that_no_kernel_takes_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 7))
    assert replace_linear_layers(model, "float8") == "1 of 2 linear layers in float8"
    assert type(model[1]) is nn.Linear
    with pytest.raises(BadInput, match="no linear layer that can be computed in it"):
        replace_linear_layers(nn.Sequential(nn.Linear(7, 5)), "float8")


@pytest.mark.parametrize(("precision", "has", "needs"), [("int8", (7, 0), "7.5"), ("float8", (8, 6), "8.9")])
def test_a_card_that_is_too_old_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, has: tuple[int, int], needs: str
) -> None:
    with_capability(monkeypatch, *has)
    told = f"precision {precision} needs a GPU of compute capability {needs} or later, but cuda:1 has {has[0]}.{has[1]}: set"
    with pytest.raises(BadInput, match=told):
        opened(tiny_model, precision, "cuda:1")


def test_float8_is_for_gpus_and_int8_says_which_package_is_missing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BadInput, match=r"float8 needs a GPU of compute capability 8\.9 or later, but the device is cpu: set encoder\.precision to auto"
    ):
        opened(tiny_model, "float8")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BadInput, match=r"int8 .* needs bitsandbytes: pip install -e '\.\[lowbits\]'"):
        opened(tiny_model, "int8")


@pytest.mark.usefixtures("any_hardware")
def test_float8_says_which_torch_is_too_old(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nn.functional, "scaled_mm")
    with pytest.raises(BadInput, match=r"needs torch 2\.10 or later"):
        opened(tiny_model, "float8")


@pytest.mark.usefixtures("any_hardware")
def test_a_model_that_does_not_run_in_8_bits_is_refused_when_it_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("no such weight")

    monkeypatch.setattr(Float8Linear, "forward", broken)
    with pytest.raises(BadInput, match="the model does not run in float8: no such weight"):
        opened(tiny_model, "float8")


def test_auto_never_takes_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capability(monkeypatch, 9, 0)
    assert expected_precision("auto", "cuda:0") == "bfloat16"
    assert decide("auto", "cuda:0", lambda: np.ones(3)).precision == "bfloat16"
    assert decide("auto", "cuda:0", lambda: np.zeros(3)).precision == "float32"


@pytest.mark.parametrize("precision", BOTH)
def test_what_it_does_to_vectors_is_told_or_why_that_is_not_known(precision: Precision) -> None:
    near = decide_eight_bits(precision, np.array([0.98, 0.99]))
    assert (near.precision, near.lowest_cosine, near.mean_cosine) == (precision, 0.98, pytest.approx(0.985))
    assert near.note.startswith(f"{precision}: as the job says; cosine to float32: lowest 0.9800, mean 0.9850 of")
    assert decide_eight_bits(precision, np.zeros(0), "there was no room (out of memory)").note.endswith(
        "no room (out of memory) to compare with float32"
    )
    with pytest.raises(BadInput, match=f"precision {precision}: vectors differ too much from float32"):
        decide_eight_bits(precision, np.array([0.2, 0.5]))
