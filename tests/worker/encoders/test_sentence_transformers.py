"""The text encoder against sentence-transformers' own `encode`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer

from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.pipeline.fault_isolation import FaultIsolatingRunner
from tests.builders.worker.text_encoder import embed, lowest_cosine, opened, passages, stock


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads that share a busy core wait for each other in every small matrix product: measured 7 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_vectors_are_those_of_sentence_transformers(tiny_model: Path) -> None:
    texts = passages(2000)
    assert lowest_cosine(embed(opened(tiny_model), texts), stock(tiny_model, texts)) >= 0.99999


def test_vectors_of_the_real_model_are_those_of_sentence_transformers(minilm_path: Path) -> None:
    texts = passages(120)
    assert lowest_cosine(embed(opened(minilm_path), texts), stock(minilm_path, texts)) >= 0.99999


def test_vectors_are_float32_of_length_1(tiny_model: Path) -> None:
    vectors = embed(opened(tiny_model), passages(20))
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_cut_dimensions_are_scaled_again(tiny_model: Path) -> None:
    texts = passages(50)
    vectors = embed(opened(tiny_model, truncate_dim=8), texts)
    assert vectors.shape == (50, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert lowest_cosine(vectors, stock(tiny_model, texts, truncate_dim=8)) >= 0.99999


def test_vectors_keep_their_length_where_the_job_says_so(tiny_model: Path) -> None:
    lengths = np.linalg.norm(embed(opened(tiny_model, normalize=False), passages(20)), axis=1)
    assert not np.allclose(lengths, 1, atol=0.01)


def test_what_is_cut_off_is_counted(tiny_model: Path) -> None:
    encoder = opened(tiny_model, max_seq_length=16)
    work = encoder.prepare(pa.table({"text": ["the of and", "the " * 50, "it " * 14]}))
    assert list(work.sizes) == [5, 16, 16]
    assert (work.stats.tokens, work.stats.truncated, work.stats.tokens_cut) == (37, 1, 36)
    assert work.stats.lengths == {8: 1, 16: 2}
    assert encoder.facts().max_seq_length == 16


def test_tokens_are_counted_as_the_model_sees_them(tiny_model: Path) -> None:
    texts = [*passages(60), "ünïcode ✓ 日本語", ""]
    work = opened(tiny_model, prompt="that is ").prepare(pa.table({"text": texts}))
    model = SentenceTransformer(str(tiny_model), device="cpu")
    assert list(work.sizes) == [int(model.preprocess(["that is " + text])["input_ids"].shape[1]) for text in texts]


def test_batch_settings_of_the_job_are_obeyed(tiny_model: Path) -> None:
    work = opened(tiny_model, Compute(batch_tokens=100, batch_rows=3)).prepare(pa.table({"text": passages(80)}))
    batches = work.plan(range(80))
    assert max(len(batch) for batch in batches) == 3
    assert all(len(batch) == 1 or len(batch) * max(work.sizes[i] for i in batch) <= 100 for batch in batches)


def test_bfloat16_stays_near_float32(tiny_model: Path) -> None:
    texts = passages(100)
    fast = open_encoder(SentenceTransformersEncoder(model=str(tiny_model)), model_path=str(tiny_model), precision="bfloat16")
    vectors = embed(fast, texts)
    assert vectors.dtype == np.float32
    assert 0.999 < lowest_cosine(vectors, embed(opened(tiny_model), texts)) < 1


def test_a_models_faults_cost_only_the_rows_that_cause_them(faulty_model: Path) -> None:
    """Real torch errors, raised by a real model: the words stand in for whatever breaks one."""
    encoder = opened(faulty_model, trust_remote_code=True)
    texts = ["the cat", "boom", "a mat", "poison", "flood", *["of and to"] * 200]
    outcome = FaultIsolatingRunner(encoder.encode).run(texts, [5] * len(texts))
    assert dict(outcome.refused) == {
        1: "encoder: this model cannot stand that word",
        3: "not finite: the model gave NaN",
        4: "out of memory: 5 tokens",
    }
    assert len(outcome.kept) == 202


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt_name": "passage"}, "encoder.prompt_name 'passage': the model defines no such prompt (it has: query"),
        ({"truncate_dim": 64}, "encoder.truncate_dim 64: the model has only 32 dimensions"),
        ({"max_seq_length": 1000}, "encoder.max_seq_length 1000: the model has positions for 128 tokens"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_named(tiny_model: Path, settings: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as refused:
        opened(tiny_model, **settings)
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


def test_a_models_own_code_is_not_run_unless_trusted(faulty_model: Path) -> None:
    with pytest.raises(BadInput, match=r"set encoder\.trust_remote_code if you trust it"):
        opened(faulty_model)


def test_a_damaged_checkpoint_is_told_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(tiny_model, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(BadInput, match="cannot be loaded") as refused:
        opened(damaged)
    assert "\n" not in str(refused.value)


class Malice:
    """Runs code where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.proof)!r}, 'w').close()",)


@pytest.mark.parametrize("module", ["", "2_Dense"])
def test_weights_that_would_run_code_are_refused_in_one_line(tiny_model: Path, tmp_path: Path, module: str) -> None:
    """In the form that is a pickle, for the model itself and for a layer behind it."""
    model, proof = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_model, model)
    if module:
        (model / module).mkdir()
        (model / module / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 8, "bias": True}))
        modules = json.loads((model / "modules.json").read_text())
        dense = {"idx": 2, "name": "2", "path": module, "type": "sentence_transformers.models.Dense"}
        (model / "modules.json").write_text(json.dumps([*modules, dense]))
    else:
        (model / "model.safetensors").unlink()
    torch.save({"linear.weight": Malice(proof)}, model / module / "pytorch_model.bin")
    with pytest.raises(BadInput, match="cannot be loaded") as refused:
        opened(model)
    assert "\n" not in str(refused.value)
    assert not proof.exists()
