"""Texts become the weights that the library gives them, whatever they are batched with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import SparseEncoder as LibrarysEncoder

from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.models.sparse_encoder import SparseEncoder
from tasks.adapters.rows.vectors.sparse_vectors import as_mapping
from tasks.domain.errors import BadInput
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.encoders.sparse import SparseTextEncoder
from tasks.worker.pipeline.fault_isolation import ZERO, FaultIsolatingRunner
from tests.builders.worker.sparse_model import make_tiny_splade
from tests.builders.worker.text_encoder import passages

TEXTS = passages(12)
UNKNOWN = "漢 字"  # of which no vocabulary of these tests has any


@pytest.fixture(scope="module")
def splade(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_splade(tiny_model, tmp_path_factory.mktemp("splade"))


def opened(model: Path, **settings: Any) -> SparseTextEncoder:
    encoder = open_encoder(SparseEncoder(model=str(model), **settings), model_path=str(model), precision="float32")
    assert isinstance(encoder, SparseTextEncoder)
    return encoder


def librarys(model: Path, texts: Sequence[str], **how: Any) -> list[dict[int, float]]:
    library = LibrarysEncoder(str(model), device="cpu")
    dense = library.encode_document(list(texts), convert_to_sparse_tensor=False, **how).numpy()
    return [{int(term): float(row[term]) for term in np.flatnonzero(row)} for row in dense]


@pytest.mark.parametrize("how", [{}, {"max_active_dims": 5}])
def test_weights_are_those_of_the_library(splade: Path, how: dict[str, int]) -> None:
    encoder = opened(splade, **how)
    work = encoder.prepare(pa.table({"text": TEXTS}))
    found: dict[int, dict[int, float]] = {}
    for batch in work.load(work.plan(range(len(TEXTS))), alone=True):
        found |= dict(zip(batch.rows, map(as_mapping, encoder.encode(batch.contents)), strict=True))
    for place, wanted in enumerate(librarys(splade, TEXTS, **how)):
        assert list(found[place]) == sorted(wanted)
        assert found[place] == pytest.approx(wanted, rel=1e-5)
    assert encoder.facts().dim > max(map(max, found.values()))
    assert shape_of(SparseEncoder(model=str(splade)), locate_model(SparseEncoder(model=str(splade)))).dim == encoder.facts().dim


def test_a_text_of_unknown_words_has_no_weight_and_is_refused_alone(splade: Path) -> None:
    outcome = FaultIsolatingRunner(opened(splade).encode).run([TEXTS[0], UNKNOWN, TEXTS[1]], [3, 3, 3])
    assert (outcome.kept, outcome.refused) == ([0, 2], [(1, ZERO)])
    assert [len(vectors) for vectors in outcome.vectors] == [2]


def test_a_model_of_another_kind_is_refused_by_what_it_is(splade: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no sparse encoder: encoder\.kind sparse takes models that weigh the words"):
        locate_model(SparseEncoder(model=str(tiny_model)))
    bare = Path(shutil.copytree(splade, tmp_path / "bare"))  # a masked language model without modules becomes a SPLADE, as in the library
    for name in ("modules.json", "config_sentence_transformers.json"):
        (bare / name).unlink()
    (bare / "config.json").write_text(json.dumps(json.loads((bare / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}))
    assert locate_model(SparseEncoder(model=str(bare))).path == str(bare)
