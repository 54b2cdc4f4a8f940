from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, varlen
from torch.nn.attention.varlen import varlen_attn
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaEmbeddings

from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.worker.base import LoadedEncoder
from tasks.worker.batching import padded_size, plan_unpadded
from tasks.worker.encoders import sentence_transformers
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.encoding_errors import Fatal
from tasks.worker.optimize import unpadded
from tasks.worker.optimize.gpu_kernels import any_shape
from tasks.worker.optimize.unpadded import UNPADDED, joined_into_one_row, unpadded_attention, why_padded
from tasks.worker.system.placement import RankPlacement
from tests.builders.worker.text_encoder import embed, lowest_cosine, passages, stock
from tests.builders.worker.varlen import varlen_reference, write_model

MEAN, CLS, LAST, WEIGHTED = (f"pooling_mode_{name}" for name in ("mean_tokens", "cls_token", "lasttoken", "weightedmean_tokens"))
TEXTS = [*passages(12), "the [PAD] of a [PAD] that is there", "one"]


class OnGpu(RankPlacement):
    """A GPU to all but torch."""

    @property
    def on_gpu(self) -> bool:
        return True


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpadded, "varlen_attn", varlen_reference)
    monkeypatch.setattr(sentence_transformers, "why_padded", lambda *_: None)


def opened(path: Path, **settings: object) -> LoadedEncoder:
    encoder = SentenceTransformersEncoder.model_validate({"model": str(path), **settings})
    return open_encoder(encoder, model_path=str(path), precision="float32", place=OnGpu())


def given(encoder: Any) -> list[tuple[int, ...]]:
    """The shapes of what the network is given from now on."""
    shapes: list[tuple[int, ...]] = []
    encoder._first.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0]["input_ids"].shape)))
    return shapes


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(
    ("kind", "pooling", "padding"),
    [
        ("bert", MEAN, "right"),
        ("xlm-roberta", CLS, "right"),
        ("modernbert", MEAN, "right"),
        ("qwen2", LAST, "left"),
        ("qwen3", LAST, "right"),
        ("qwen3", WEIGHTED, "left"),
    ],
)
def test_texts_without_padding_have_the_librarys_vectors(kind: str, pooling: str, padding: str, tiny_model: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", kind, tiny_model, pooling=pooling, padding=padding)
    encoder = opened(path)
    assert encoder.facts().note == "attention without padding"
    shapes = given(encoder)
    vectors = embed(encoder, TEXTS)
    assert lowest_cosine(vectors, stock(path, TEXTS, batch_size=1)) > 0.99999
    work = encoder.prepare(pa.table({"text": TEXTS}))
    [batch] = work.plan(range(len(TEXTS)))
    assert shapes == [(1, sum(work.sizes))] == [(1, work.computed_tokens(batch))]
    assert sum(work.sizes) < padded_size(batch, work.sizes) / 3


@pytest.mark.usefixtures("reference")
def test_a_prompt_that_pooling_leaves_out_is_left_out_without_padding_as_well(tiny_model: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", "bert", tiny_model, pooling=MEAN)
    pooling = path / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("}", ', "include_prompt": false}'))
    encoder = opened(path, prompt="the one that is ")
    assert encoder.facts().note == "attention without padding"
    assert lowest_cosine(embed(encoder, TEXTS), stock(path, TEXTS, prompt="the one that is ", batch_size=1)) > 0.99999
    assert lowest_cosine(encoder.embed_queries(TEXTS), stock(path, TEXTS, prompt_name="query", batch_size=1)) > 0.99999


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(("kind", "network"), [("mpnet", "MPNetModel"), ("t5", "T5EncoderModel")])
def test_an_architecture_that_cannot_is_padded_and_says_why(kind: str, network: str, tiny_model: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", kind, tiny_model, pooling=MEAN)
    encoder = opened(path)
    assert encoder.facts().note == f"texts are padded: the attention of {network} cannot be selected"
    assert lowest_cosine(embed(encoder, TEXTS), stock(path, TEXTS)) > 0.99999


@pytest.mark.usefixtures("reference")
def test_a_model_whose_vectors_would_be_others_is_padded(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(query: torch.Tensor, *more: Any, window_size: tuple[int, int], **settings: Any) -> torch.Tensor:
        return varlen_reference(query, *more, window_size=(3, 3), **settings)

    path = write_model(tmp_path / "model", "bert", tiny_model, pooling=MEAN)
    monkeypatch.setattr(unpadded, "varlen_attn", blind)
    encoder = opened(path)
    assert encoder.facts().note.startswith("texts are padded: without padding its vectors would differ (cosine 0.")
    assert encoder._first.auto_model.config._attn_implementation == "sdpa"
    assert lowest_cosine(embed(encoder, TEXTS), stock(path, TEXTS)) > 0.99999


@pytest.mark.usefixtures("reference")
def test_a_broken_device_is_no_reason_to_pad(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise Fatal("the device is gone")

    path = write_model(tmp_path / "model", "bert", tiny_model, pooling=MEAN)
    monkeypatch.setattr(unpadded, "varlen_attn", broken)
    with pytest.raises(Fatal, match="the device is gone"):
        opened(path)


def test_it_is_for_half_precision_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_padded("cuda:1", "bfloat16") is None
    assert why_padded("cuda:1", "float32") == "float32 has no kernels without padding"
    assert why_padded("cpu", "bfloat16") == "the device is not a GPU"
    monkeypatch.setattr(unpadded, "varlen_attn", None)
    assert "has no torch.nn.attention.varlen" in str(why_padded("cuda:1", "bfloat16"))


def test_torchs_own_kernel_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU nothing is computed, but its arguments are checked and the result has its shape."""
    called: list[dict[str, Any]] = []

    def noting(*tensors: Any, **settings: Any) -> torch.Tensor:
        called.append(settings)
        return varlen_attn(*tensors, **settings)

    monkeypatch.setattr(unpadded, "varlen_attn", noting)
    query, key, value = (torch.empty(1, heads, 9, 16, dtype=torch.bfloat16, device="meta") for heads in (4, 2, 2))
    layer = torch.nn.Module()
    layer.is_causal = True
    ends = torch.tensor([0, 4, 9], dtype=torch.int32)
    found, _ = unpadded_attention(layer, query, key, value, None, sliding_window=3, cu_seq_lens_q=ends, max_length_q=5)
    assert found.shape == (1, 9, 4, 16)
    assert called == [{"scale": None, "window_size": (2, 0), "enable_gqa": True}]


@pytest.mark.parametrize(
    ("kind", "padding"), [("bert", "right"), ("xlm-roberta", "right"), ("modernbert", "right"), ("qwen2", "left"), ("qwen3", "right")]
)
def test_nothing_is_on_another_device_or_waits_for_the_card(
    kind: str, padding: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card without memory, which computes nothing: torch raises where devices are mixed, and where a value is needed on the host.

    It says of itself that it is an H100, so that torch's own choice of a kernel is made as it is there.
    """
    chosen: list[tuple[int, torch.dtype, torch.device, type]] = []

    def noting(query: torch.Tensor, *more: Any) -> int:
        backend = choice(query, *more)
        chosen.append((backend, more[2].dtype, more[2].device, type(more[4])))
        return backend

    choice = varlen._select_backend
    monkeypatch.setattr(varlen, "_select_backend", noting)
    monkeypatch.setattr(varlen, "_cudnn_version_and_major_capability", lambda _: (92400, 9))
    path = write_model(tmp_path / "model", kind, tiny_model, pooling=MEAN, padding=padding)
    model = SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    unpadded._choose(model, dict.fromkeys(unpadded._implementations(model), UNPADDED))
    features = joined_into_one_row(model.preprocess(TEXTS), unpadded._padding_index(model))
    card = torch.device("cuda:0")
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model._apply(lambda tensor: fake.from_tensor(tensor).to(card))
        given = {name: fake.from_tensor(value) if isinstance(value, torch.Tensor) else value for name, value in features.items()}
        with any_shape(on_gpu=True):
            found = model[0](batch_to_device(given, card))["token_embeddings"]
        model[0](batch_to_device(given, card))
    assert (found.shape, found.device, found.dtype) == ((1, int(features["cu_seq_lens_q"][-1]), 64), card, torch.bfloat16)
    calls = len(chosen) // 2
    assert chosen[:calls] == [(SDPBackend.FLASH_ATTENTION.value, torch.int32, card, int)] * calls
    assert {backend for backend, *_ in chosen[calls:]} >= {SDPBackend.CUDNN_ATTENTION.value}  # what it is where all kernels are allowed


@pytest.mark.usefixtures("reference")
def test_no_kernel_is_built_for_the_shape_of_a_batch_of_texts(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's are: torch takes them before others on an H100, with padding and without."""
    allowed: list[bool] = []

    def noting(*tensors: Any, **settings: Any) -> torch.Tensor:
        allowed.append(torch.backends.cuda.cudnn_sdp_enabled())
        return varlen_reference(*tensors, **settings)

    monkeypatch.setattr(unpadded, "varlen_attn", noting)
    encoder = opened(tiny_model)
    embed(encoder, TEXTS)
    assert allowed
    assert not any(allowed)
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_what_the_kernels_do_not_know_is_an_error() -> None:
    tensor = torch.zeros(1, 2, 3, 8)
    with pytest.raises(NotImplementedError, match="does not support position_bias"):
        unpadded_attention(torch.nn.Module(), tensor, tensor, tensor, None, cu_seq_lens_q=torch.tensor([0, 3]), position_bias=tensor)


def test_a_batch_with_more_than_text_stays_as_it_is() -> None:
    mask = torch.tensor([[1, 1], [1, 0]])
    picture = {"input_ids": mask, "attention_mask": mask, "pixel_values": torch.zeros(2, 3, 4, 4)}
    assert joined_into_one_row(picture) is picture
    joined = joined_into_one_row({"input_ids": torch.tensor([[5, 6], [7, 0]]), "attention_mask": mask, "modality": "text"})
    assert joined["input_ids"].tolist() == [[5, 6, 7]]
    assert joined["position_ids"].tolist() == [[0, 1, 0]]
    assert joined["cu_seq_lens_q"].tolist() == [0, 2, 3]
    assert "attention_mask" not in joined


def test_a_text_that_holds_the_paddings_own_token_is_numbered_as_roberta_numbers_it() -> None:
    """Its embeddings count from the padding's index on, and give a token with the padding's id that index itself, wherever it stands."""
    ids, mask = torch.tensor([[5, 1, 6, 7], [8, 9, 1, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    joined = joined_into_one_row({"input_ids": ids, "attention_mask": mask}, padding_index=1)
    assert joined["input_ids"].tolist() == [[5, 1, 6, 7, 8, 9]]
    due = XLMRobertaEmbeddings.create_position_ids_from_input_ids(ids, 1)
    assert joined["position_ids"].tolist() == [due[mask.bool()].tolist()] == [[2, 1, 3, 4, 2, 3]]


def test_a_batch_that_is_padded_all_the_same_is_the_librarys(tiny_model: Path) -> None:
    encoder: Any = opened(tiny_model)
    due = embed(encoder, TEXTS)
    encoder._first.auto_model.set_attn_implementation(UNPADDED)
    assert lowest_cosine(embed(encoder, TEXTS), due) > 0.99999


def test_batches_without_padding_are_filled_by_their_tokens() -> None:
    sizes = [3, 90, 0, 40, 30, 200, 31]
    batches = plan_unpadded(sizes, budget=100, rows=2)
    assert batches == [[5], [1], [3, 6], [4, 0], [2]]
    assert plan_unpadded([], budget=100, rows=2) == []
