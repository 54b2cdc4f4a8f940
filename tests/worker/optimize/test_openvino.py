"""OpenVINO in the place of torch: the same vectors, through the same library."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import pytest

from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.system.placement import RankPlacement
from tests.builders.worker.text_encoder import embed, lowest_cosine, passages, stock

needs_openvino = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('openvino')", reason="the extra is not installed")


def opened(path: Path, precision: Precision = "float32", place: RankPlacement | None = None, **settings: object) -> LoadedEncoder:
    encoder = SentenceTransformersEncoder.model_validate({"model": str(path), **settings})
    return open_encoder(encoder, model_path=str(path), precision=precision, place=place, backend="openvino")


@needs_openvino
def test_vectors_are_those_of_torch(tiny_model: Path) -> None:
    texts = passages(300)
    assert lowest_cosine(embed(opened(tiny_model), texts), stock(tiny_model, texts)) >= 0.99999


@needs_openvino
@pytest.mark.parametrize(("precision", "near"), [("float32", 0.99999), ("bfloat16", 0.9995)])
def test_vectors_of_the_real_model_are_those_of_torch(minilm_path: Path, precision: Precision, near: float) -> None:
    """Where the processor multiplies no bfloat16, OpenVINO stays with float32."""
    texts = passages(60)
    assert lowest_cosine(embed(opened(minilm_path, precision), texts), stock(minilm_path, texts)) >= near


@needs_openvino
def test_prompts_and_cut_dimensions_are_the_librarys_business(tiny_model: Path) -> None:
    texts = passages(20)
    ours = embed(opened(tiny_model, prompt_name="query", truncate_dim=8), texts)
    assert lowest_cosine(ours, stock(tiny_model, texts, prompt_name="query", truncate_dim=8)) >= 0.99999


@needs_openvino
def test_the_seal_says_what_made_it(tiny_model: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415

    assert opened(tiny_model).prepare(pa.table({"text": ["a"]})).stats.backend == "openvino"


class _SignalStack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def is_mapped(address: int) -> bool:
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(first, 16) <= address < int(stop, 16) for first, stop in ranges)


@needs_openvino
def test_signals_find_their_stack_after_encoders_have_come_and_gone_in_any_order(tiny_model: Path) -> None:
    """Else the next signal ends the process: a rank that is cancelled would not say what it has saved."""
    kept = [opened(tiny_model), opened(tiny_model)]
    while kept:
        del kept[0]
        gc.collect()
    stack = _SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    assert stack.address is not None
    assert is_mapped(stack.address)


@needs_openvino
def test_nothing_is_sent_home(tiny_model: Path) -> None:
    opened(tiny_model)
    assert "openvino_telemetry" not in sys.modules


@needs_openvino
def test_modules_after_the_transformer_are_torchs_still(faulty_model: Path) -> None:
    encoder = opened(faulty_model, trust_remote_code=True)
    with pytest.raises(ValueError, match="cannot stand that word"):
        encoder.encode(["boom"])


def test_what_openvino_does_not_do_is_said(tiny_model: Path) -> None:
    with pytest.raises(BadInput, match=r"float16: set encoder\.precision"):
        opened(tiny_model, "float16")
    with pytest.raises(BadInput, match=r"cuda:0 in float32: set compute\.backend to torch"):
        opened(tiny_model, place=RankPlacement(device="cuda:0"))
    with pytest.raises(BadInput, match="text encoders only"):
        open_encoder(OpenClipEncoder(), model_path="", precision="float32", backend="openvino")


def test_openvino_that_is_not_installed_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "openvino.tools.ovc", None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[openvino\]'"):
        opened(tiny_model)
