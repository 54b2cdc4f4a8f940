"""int8: quantised once for a corpus, kept with its checkpoint, and known by a digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.object_store.registry import open_store
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize import int8 as quantising
from tasks.worker.optimize.int8 import digest_of, load_or_quantize
from tasks.worker.optimize.precision import decide_eight_bits
from tasks.worker.system.placement import RankPlacement
from tests.builders.worker.text_encoder import embed, lowest_cosine, passages, stock

KEY = "rows/encoders/d-int8.zip"


def assignment(folder: Path, model: Path, **more: object) -> Assignment:
    told = {
        "encoder": SentenceTransformersEncoder(model=str(model), precision="int8"),
        "model_path": str(model),
        "modality": "text",
        "precision": "int8",
        "sample": tuple(passages(40)),
        "quantized_key": KEY,
        "compute": Compute(),
        "store": str(folder / "checkpoint"),
        "fields": (),
        "store_text": False,
        "socket": "",
    }
    return Assignment.model_validate(told | more)


def opened(told: Assignment) -> LoadedEncoder:
    place = RankPlacement(int8=partial(load_or_quantize, told))
    return open_encoder(told.encoder, model_path=told.model_path, precision="int8", place=place, backend="openvino")


def never(_: Sequence[str]) -> bytes:
    raise AssertionError("it was made again")


def test_it_is_quantised_once_near_to_float32_and_alike_in_any_company(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, texts = assignment(tmp_path, tiny_model), passages(60)
    first = opened(told)
    vectors = embed(first, texts)
    assert lowest_cosine(vectors, stock(tiny_model, texts)) > 0.9
    monkeypatch.setattr(quantising, "quantizer", never)
    second = opened(told)
    digest = second.facts().quantized
    assert digest == first.facts().quantized == digest_of(open_store(told.store).read(KEY) or b"")
    assert second.facts().precision == "int8"
    # Each by itself: a row's vector is its own, whatever rows are in its batch.
    alone = np.concatenate([second.encode([text]) for text in texts[:5]])
    assert lowest_cosine(vectors[:5], alone) > 0.99999


def test_the_first_to_keep_it_wins(tmp_path: Path, tiny_model: Path) -> None:
    told = assignment(tmp_path, tiny_model)

    def beaten(_: Sequence[str]) -> bytes:
        open_store(told.store).commit(KEY, b"theirs")
        return b"ours"

    assert load_or_quantize(told, beaten) == b"theirs"
    assert load_or_quantize(told, never) == b"theirs"


@pytest.mark.parametrize(("kept", "words"), [(None, "is missing"), (b"another", "was changed")])
def test_a_corpus_is_not_continued_with_another_quantised_model(tmp_path: Path, tiny_model: Path, kept: bytes | None, words: str) -> None:
    told = assignment(tmp_path, tiny_model, quantized=digest_of(b"the first"))
    if kept is not None:
        open_store(told.store).commit(KEY, kept)
    with pytest.raises(BadInput, match=words):
        load_or_quantize(told, never)


def test_without_a_row_there_is_nothing_to_calibrate_with(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(BadInput, match="no row to calibrate with"):
        load_or_quantize(assignment(tmp_path, tiny_model, sample=()), never)


@pytest.mark.parametrize(
    ("place", "backend", "words"),
    [
        (RankPlacement(device="cuda:0"), "openvino", "set compute.backend to torch"),
        (RankPlacement(), "openvino", "quantises a model for a corpus"),
    ],
)
def test_what_cannot_compute_it_says_what_can(tiny_model: Path, place: RankPlacement, backend: str, words: str) -> None:
    encoder = SentenceTransformersEncoder(model=str(tiny_model), precision="int8")
    with pytest.raises(BadInput, match=words):
        open_encoder(
            encoder, model_path=str(tiny_model), precision="int8", place=place, backend="openvino" if backend == "openvino" else "torch"
        )


def test_without_nncf_the_extra_is_named(tmp_path: Path, tiny_model: Path, without: Callable[[str], None]) -> None:
    without("nncf")
    with pytest.raises(BadInput, match="needs OpenVINO and NNCF: pip install"):
        opened(assignment(tmp_path, tiny_model))


def test_what_it_does_to_vectors_is_told_and_other_vectors_are_refused() -> None:
    near = decide_eight_bits("int8", np.array([0.98, 0.99]))
    assert (near.precision, near.lowest_cosine, near.mean_cosine) == ("int8", 0.98, pytest.approx(0.985))
    with pytest.raises(BadInput, match="use float32"):
        decide_eight_bits("int8", np.array([0.2, 0.5]))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Importing a module fails."""
    import sys  # noqa: PLC0415

    return lambda module: monkeypatch.setitem(sys.modules, module, None)
