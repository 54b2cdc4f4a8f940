"""How a launch comes to have one encoder, without torchrun: what one rank says, and what it does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.domain.encoder import EncoderFacts, Precision, SentenceTransformersEncoder
from tasks.domain.errors import BadInput
from tasks.domain.job import Compute
from tasks.domain.messages import Assignment
from tasks.worker import precision, start
from tasks.worker.encoders import LoadedEncoder
from tasks.worker.group import Group
from tasks.worker.place import Place
from tasks.worker.start import AnotherFailed, Start, Stopwatch, take_place
from tests.worker.fakes import FakeEncoder


class FakeGroup(Group):
    """A second rank that always answers the same."""

    def __init__(self, told: str | None = None, other: int = 0) -> None:
        super().__init__(2)
        self._told, self._other = told, other

    def tell(self, text: str) -> str:
        return text if self._told is None else self._told

    def gather(self, number: int) -> list[int]:
        return [number, self._other or number] if number > 1 else [number, self._other]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[Precision, FakeEncoder]:
    """Every encoder that is loaded, by precision; bfloat16 is native and near."""
    opened: dict[Precision, FakeEncoder] = {}

    def open_fake(*_: object, precision: Precision, **__: object) -> LoadedEncoder:
        if precision == "float16":
            raise BadInput("no such model")
        return opened.setdefault(precision, FakeEncoder(precision, 0.0 if precision == "float32" else 1e-4))

    monkeypatch.setattr(start, "open_encoder", open_fake)
    monkeypatch.setattr(precision, "native_bfloat16", lambda _device: True)
    return opened


def begin(wanted: str, *, rank: int = 0, group: Group | None = None) -> tuple[LoadedEncoder, EncoderFacts]:
    assignment = Assignment.model_validate(
        {
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
    )
    return Start(assignment, Place(rank=rank, ranks=2), group or FakeGroup(), Stopwatch()).encoder()


def test_auto_keeps_the_fast_encoder_and_closes_the_one_it_was_held_against(loaded: dict[Precision, FakeEncoder]) -> None:
    encoder, facts = begin("auto")
    assert encoder is loaded["bfloat16"]
    assert loaded["float32"].closed
    assert facts.precision == "bfloat16"
    assert facts.lowest_cosine == pytest.approx(1, abs=1e-6)


def test_the_other_ranks_take_rank_0s_word_and_compare_nothing(loaded: dict[Precision, FakeEncoder]) -> None:
    told = '{"precision": "float32", "lowest_cosine": 0.9, "note": "float32: too far"}'
    encoder, facts = begin("auto", rank=1, group=FakeGroup(told))
    assert encoder is loaded["float32"]
    assert loaded["bfloat16"].closed
    assert (facts.precision, facts.lowest_cosine, facts.note) == ("float32", 0.9, "float32: too far")


def test_an_encoder_that_cannot_be_loaded_is_told_after_all_have_heard(loaded: dict[Precision, FakeEncoder]) -> None:
    with pytest.raises(BadInput, match="no such model"):
        begin("float16")


@pytest.mark.parametrize("group", [FakeGroup(other=1), FakeGroup(told="")])
def test_a_rank_leaves_quietly_when_another_has_failed(loaded: dict[Precision, FakeEncoder], group: Group) -> None:
    with pytest.raises(AnotherFailed):
        begin("float32", rank=1, group=group)


def test_cores_are_shared_out_among_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "cores_available", lambda: 9)
    told: list[int] = []
    monkeypatch.setattr(start.torch, "set_num_threads", told.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert take_place(Compute(device="cpu")) == Place(rank=1, ranks=4, threads=2, device="cpu")
    take_place(Compute(device="cpu", threads=5))
    assert told == [2, 5]


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start.torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"compute\.device is 'cuda'"):
        take_place(Compute(device="cuda"))
    assert take_place(Compute(threads=1)).device == "cpu"
