"""How a launch comes to have one encoder, without torchrun: what one rank says, and what it does alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import LLM_INT8, Backend, Tuning
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.optimize import autotune, precision
from tasks.worker.optimize.autotune import TunedBatch
from tasks.worker.optimize.precision import Decision
from tasks.worker.startup import agreement
from tasks.worker.startup.agreement import Agreement, Start, Stopwatch, place_rank
from tasks.worker.startup.process_group import ProcessGroup
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import AnotherFailed
from tests.builders.worker.fakes import FakeEncoder


class FakeGroup(ProcessGroup):
    """A second rank that always answers the same."""

    def __init__(self, told: str | None = None, other: int = 0) -> None:
        super().__init__(2)
        self._told, self._other = told, other

    def broadcast(self, text: str) -> str:
        return text if self._told is None else self._told

    def gather(self, number: int) -> list[int]:
        return [number, self._other or number] if number > 1 else [number, self._other]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[Precision, FakeEncoder]:
    """Every encoder that is loaded, by precision; bfloat16 is native and near."""
    opened: dict[Precision, FakeEncoder] = {}

    def open_fake(*_: object, precision: Precision, backend: Backend, **__: object) -> LoadedEncoder:
        if precision == "float16":
            raise BadInput("no such model")
        if backend == "openvino":
            return openvino
        return opened.setdefault(precision, FakeEncoder(precision, 0.0 if precision == "float32" else 1e-4))

    openvino = FakeEncoder("bfloat16", 1e-4)
    monkeypatch.setattr(agreement, "open_encoder", open_fake)
    monkeypatch.setattr(precision, "native_bfloat16", lambda _device: True)
    return opened


def begin(wanted: str, *, rank: int = 0, group: ProcessGroup | None = None, **more: Any) -> tuple[LoadedEncoder, EncoderFacts]:
    return starting(wanted, rank=rank, group=group, **more).encoder()


def starting(wanted: str, *, rank: int = 0, group: ProcessGroup | None = None, device: str = "cpu", **more: object) -> Start:
    given = {
        "encoder": SentenceTransformersEncoder(),
        "model_path": "m",
        "modality": "text",
        "precision": wanted,
        "sample": ("a", "bb"),
        "compute": Compute(),
        "store": "s",
        "fields": (),
        "store_text": True,
        "socket": "s",
    }
    assignment = Assignment.model_validate(given | more)
    return Start(assignment, RankPlacement(rank=rank, ranks=2, device=device), group or FakeGroup(), Stopwatch())


@pytest.fixture
def openvino(loaded: dict[Precision, FakeEncoder], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO is installed, twice as fast as what is measured before it, and there is much to do."""
    rates = iter([0.02, 0.01])
    monkeypatch.setattr(agreement, "find_spec", lambda _name: object())
    monkeypatch.setattr(agreement, "worth_measuring", lambda *_, **__: True)
    monkeypatch.setattr(agreement, "compare_backends", lambda _encoders, found, _sample: found)
    monkeypatch.setattr(agreement, "tune_batches", lambda *_: TunedBatch(tokens=512, row_seconds=next(rates)))


def test_what_was_measured_before_is_not_measured_again(loaded: dict[Precision, FakeEncoder], openvino: None) -> None:
    begun = starting("float32", tuning=Tuning(backend="openvino", batch_tokens=2048))
    encoder, _ = begun.encoder()
    assert encoder not in loaded.values()
    assert encoder.budget == 2048
    assert begun.measured is None


def test_auto_takes_the_backend_that_is_faster_and_has_it_kept(loaded: dict[Precision, FakeEncoder], openvino: None) -> None:
    begun = starting("bfloat16")
    encoder, facts = begun.encoder()
    assert loaded["bfloat16"].closed
    assert encoder.budget == 512
    assert begun.measured == Tuning(backend="openvino", batch_tokens=512, note=facts.note.partition("; ")[2])
    assert "torch 50 rows/s and openvino 100 rows/s" in facts.note


def test_a_backend_whose_vectors_are_others_is_left_out_and_that_is_said(
    loaded: dict[Precision, FakeEncoder], openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "sample_cosines", lambda *_: np.array([0.9]))
    encoder, facts = begin("bfloat16")
    assert encoder is loaded["bfloat16"]
    assert "openvino is not used: its lowest cosine to torch is 0.90000" in facts.note


def test_a_job_that_names_its_backend_gets_it_and_no_other(loaded: dict[Precision, FakeEncoder], openvino: None) -> None:
    assert begin("float32", compute=Compute(backend="torch"))[0] is loaded["float32"]
    assert begin("float32", compute=Compute(backend="openvino"))[0] is not loaded["float32"]


def test_auto_keeps_the_fast_encoder_and_closes_the_one_it_was_held_against(loaded: dict[Precision, FakeEncoder]) -> None:
    encoder, facts = begin("auto")
    assert encoder is loaded["bfloat16"]
    assert loaded["float32"].closed
    assert facts.precision == "bfloat16"
    assert facts.lowest_cosine == pytest.approx(1, abs=1e-6)


def test_the_other_ranks_take_rank_0s_word_and_compare_nothing(loaded: dict[Precision, FakeEncoder]) -> None:
    decision = Decision(precision="float32", lowest_cosine=0.9, note="float32: too far")
    told = Agreement(decision=decision, tuning=Tuning()).model_dump_json()
    encoder, facts = begin("auto", rank=1, group=FakeGroup(told))
    assert encoder is loaded["float32"]
    assert loaded["bfloat16"].closed
    assert (facts.precision, facts.lowest_cosine, facts.note) == ("float32", 0.9, "float32: too far")


def test_int8_is_made_by_rank_0_and_held_against_float32(loaded: dict[Precision, FakeEncoder]) -> None:
    encoder, facts = begin("int8")
    assert encoder not in loaded.values()  # OpenVINO's
    assert loaded["float32"].closed
    assert (facts.lowest_cosine, facts.mean_cosine) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert "int8: as the job says; cosine to float32" in facts.note


@pytest.mark.parametrize(
    ("precision", "device", "backend"), [("int8", "cuda:0", "auto"), ("int8", "cpu", "torch"), ("float8", "cuda:0", "auto")]
)
def test_8_bits_by_torch_are_compared_with_float32(
    loaded: dict[Precision, FakeEncoder], precision: Precision, device: str, backend: Backend
) -> None:
    encoder, facts = begin(precision, device=device, compute=Compute.model_validate({"backend": backend}))
    assert encoder is loaded[precision]
    assert loaded["float32"].closed
    assert f"{precision}: as the job says; cosine to float32" in facts.note
    assert facts.mean_cosine == pytest.approx(1, abs=1e-6)


def test_where_a_gpu_has_no_room_for_float32_nothing_is_compared_and_that_is_said(
    loaded: dict[Precision, FakeEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_fake = agreement.open_encoder

    def small(*a: Any, precision: Precision, **more: Any) -> LoadedEncoder:
        if precision == "float32":
            raise BadInput("CUDA out of memory")
        return open_fake(*a, precision=precision, **more)

    monkeypatch.setattr(agreement, "open_encoder", small)
    _, facts = begin("float8", device="cuda:0")
    assert facts.mean_cosine is None
    assert facts.note == "float8: as the job says; there was no room (CUDA out of memory) to compare with float32"
    with pytest.raises(BadInput, match="CUDA out of memory"):  # where it is no lack of room
        begin("int8")


@pytest.mark.parametrize(
    ("quantized", "device", "told"),
    [
        (LLM_INT8, "cpu", r"by torch \(bitsandbytes\), but here openvino computes it: set compute.backend to torch, or start another"),
        (
            "0123456789abcdef",
            "cuda:0",
            "by OpenVINO on CPUs, but here torch computes it: set compute.backend to openvino, or start another",
        ),
    ],
)
def test_a_corpus_is_not_continued_in_the_other_int8(loaded: dict[Precision, FakeEncoder], quantized: str, device: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        begin("int8", device=device, quantized=quantized)


@pytest.mark.parametrize(("seconds", "said"), [(0.01, True), (0.03, False)])
def test_long_work_in_float32_is_told_that_int8_would_take_half_the_time(
    loaded: dict[Precision, FakeEncoder], openvino: None, monkeypatch: pytest.MonkeyPatch, seconds: float, said: bool
) -> None:
    """Nothing else is twice as fast where the processor multiplies no bfloat16."""
    times = iter([0.04, 0.05])
    monkeypatch.setattr(agreement, "native_bfloat16", lambda _device: False)
    monkeypatch.setattr(precision, "native_bfloat16", lambda _device: False)
    monkeypatch.setattr(agreement, "tune_batches", lambda *_: TunedBatch(tokens=512, row_seconds=next(times)))
    monkeypatch.setattr(autotune, "tune_batches", lambda *_: TunedBatch(tokens=512, row_seconds=seconds))
    begun = starting("auto", rows=10**6)
    _, facts = begun.encoder()
    assert facts.precision == "float32"
    assert ("int8 would be 4.0 times as fast" in facts.note) is said
    assert begun.measured is not None
    assert begun.measured.note in facts.note


def test_the_other_ranks_open_int8_when_rank_0_has_made_it(loaded: dict[Precision, FakeEncoder], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    open_fake = agreement.open_encoder
    monkeypatch.setattr(agreement, "open_encoder", lambda *a, **more: order.append("opened") or open_fake(*a, **more))

    class Telling(FakeGroup):
        def broadcast(self, text: str) -> str:
            order.append("told")
            return super().broadcast(text)

    settled = Agreement(decision=Decision(precision="int8"), tuning=Tuning(backend="openvino"))
    begin("int8", rank=1, group=Telling(settled.model_dump_json()))
    assert order == ["told", "opened"]
    assert not loaded


def test_an_encoder_that_cannot_be_loaded_is_told_after_all_have_heard(loaded: dict[Precision, FakeEncoder]) -> None:
    with pytest.raises(BadInput, match="no such model"):
        begin("float16")


@pytest.mark.parametrize("group", [FakeGroup(other=1), FakeGroup(told="")])
def test_a_rank_leaves_quietly_when_another_has_failed(loaded: dict[Precision, FakeEncoder], group: ProcessGroup) -> None:
    with pytest.raises(AnotherFailed):
        begin("float32", rank=1, group=group)


def test_cores_are_shared_out_among_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "cores", lambda: 9)
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert place_rank(Compute(device="cpu")) == RankPlacement(rank=1, ranks=4, threads=2, device="cpu")
    place_rank(Compute(device="cpu", threads=5))
    assert told == [2, 5]


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"compute\.device is 'cuda'"):
        place_rank(Compute(device="cuda"))
    assert place_rank(Compute(threads=1)).device == "cpu"
