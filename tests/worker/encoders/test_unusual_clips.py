"""open_clip models that are not CLIP's own: their preprocessing, precisions and places; and what is said where one cannot be loaded."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from open_clip.transform import PreprocessCfg
from PIL import Image
from transformers import BertConfig, BertModel

from tasks.adapters.models.clip_preprocessing import FAMILIES, family_preprocessing
from tasks.adapters.models.model_files import locate_model
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import OpenClipEncoder
from tasks.domain.job.job import Compute
from tasks.run.promotion.query_encoder import QueryEncoder
from tasks.worker.base import LoadedEncoder, Vectors
from tasks.worker.encoders import decode_workers
from tasks.worker.encoders import open_clip as open_clip_encoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize import precision
from tasks.worker.startup.agreement import Start, Stopwatch
from tasks.worker.startup.process_group import ProcessGroup
from tasks.worker.system.placement import RankPlacement
from tests.builders.models import HIDDEN, Clip
from tests.builders.worker.pictures import photograph, saved

SIGLIP = "tiny-SigLIP"
HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5), "image_resize_mode": "squash"}
PICTURE = photograph(300, 120)


@pytest.fixture
def siglip(tmp_path: Path, tiny_clip: Clip) -> Iterator[Path]:
    """A checkpoint of a small architecture that open_clip knows by a SigLIP's name."""
    folder = Path(tiny_clip.architecture.removeprefix("local-dir:"))
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / f"{SIGLIP}.json").write_text(json.dumps(config))
    before = list(open_clip.factory._MODEL_CONFIG_PATHS)
    open_clip.add_model_config(tmp_path / f"{SIGLIP}.json")
    shutil.copy(folder / "open_clip_model.safetensors", tmp_path / "siglip.safetensors")
    yield tmp_path / "siglip.safetensors"
    open_clip.factory._MODEL_CONFIG_PATHS[:] = before
    open_clip.factory._MODEL_CONFIGS.pop(SIGLIP)


def opened(settings: OpenClipEncoder, **more: Any) -> LoadedEncoder:
    path = settings.pretrained
    return open_encoder(settings, model_path=path, **{"precision": "float32", **more})


def embed(encoder: LoadedEncoder, picture: Image.Image) -> Vectors:
    table = pa.table({"image": pa.array([saved(picture, "PNG")], pa.large_binary()), "image_uri": pa.nulls(1, pa.string())})
    (batch,) = encoder.prepare(table).load([[0]], alone=True)
    return encoder.encode(batch.contents)


def library(architecture: str, pretrained: str | None, picture: Image.Image, **more: Any) -> Vectors:
    logging.disable(logging.WARNING)
    model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=pretrained, **more)
    logging.disable(logging.NOTSET)
    with torch.inference_mode():
        return np.asarray(model.eval().encode_image(transform(picture)[None], normalize=True).numpy())


def cosine(a: Vectors, b: Vectors) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_a_checkpoint_of_a_siglip_gets_a_siglips_preprocessing(siglip: Path) -> None:
    ours = embed(opened(OpenClipEncoder(architecture=SIGLIP, pretrained=str(siglip))), PICTURE)
    assert cosine(ours, library(SIGLIP, str(siglip), PICTURE, **HALF)) >= 0.99999
    assert cosine(ours, library(SIGLIP, str(siglip), PICTURE)) < 0.99


def test_every_architecture_of_open_clip_has_the_preprocessing_of_its_tags(tmp_path: Path) -> None:
    (tmp_path / "file.pt").touch()
    usual = {name: asdict(PreprocessCfg())[name] for name in ("mean", "std", "interpolation", "resize_mode")}
    for architecture, tags in _PRETRAINED.items():
        told = {
            tuple((name, tuple(tag[name]) if isinstance(tag[name], list | tuple) else tag[name]) for name in usual) for tag in tags.values()
        }
        family = family_preprocessing(OpenClipEncoder(architecture=architecture, pretrained=str(tmp_path / "file.pt")))
        taken = tuple((name, tuple(value) if isinstance(value, list | tuple) else value) for name, value in {**usual, **family}.items())
        assert taken in told, architecture
        assert len(told) == 1 or not family, architecture
    assert len(FAMILIES) == 6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"mean": [0.1, 0.2, 0.3], "std": [0.9, 0.8, 0.7]}, {"image_mean": (0.1, 0.2, 0.3), "image_std": (0.9, 0.8, 0.7)}),
        ({"resize_mode": "longest"}, {"image_resize_mode": "longest"}),
        ({"interpolation": "bilinear"}, {"image_interpolation": "bilinear"}),
        ({"image_size": 32}, {"force_image_size": 32}),
        ({"quick_gelu": True}, {"force_quick_gelu": True}),
    ],
)
def test_the_jobs_preprocessing_is_taken(tiny_clip: Clip, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    settings = OpenClipEncoder.model_validate({"architecture": tiny_clip.architecture, "pretrained": "", **ours})
    made = embed(opened(settings), PICTURE)
    assert cosine(made, library(tiny_clip.architecture, None, PICTURE, **theirs)) >= 0.99999
    assert np.abs(made - library(tiny_clip.architecture, None, PICTURE)).max() > 1e-4
    assert set(ours) <= set(settings.preprocessing)
    plain = OpenClipEncoder(architecture=tiny_clip.architecture, pretrained="")
    assert set(plain.preprocessing) == {"architecture", "max_pixels", "exact", "normalize"}  # as it was before there were these settings


def test_what_an_architecture_was_trained_with_is_told_and_in_the_identity(tmp_path: Path) -> None:
    (tmp_path / "file.pt").touch()
    told = {"architecture": "ViT-B-16-SigLIP", "pretrained": str(tmp_path / "file.pt")}
    located = locate_model(OpenClipEncoder(**told))
    assert located.resolved == {"trained_with": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}}
    assert located.description == "pictures: mean 0.5 0.5 0.5, std 0.5 0.5 0.5, resize mode squash (as ViT-B-16-SigLIP was trained)"
    own = locate_model(OpenClipEncoder(**told, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), resize_mode="shortest"))
    assert not own.resolved
    assert not locate_model(OpenClipEncoder(architecture="ViT-B-16", pretrained=told["pretrained"])).resolved


def coca(folder: Path, tiny_clip: Clip) -> str:
    """With a decoder behind the towers."""
    config = json.loads((Path(tiny_clip.architecture.removeprefix("local-dir:")) / "open_clip_config.json").read_text())
    model = config["model_cfg"]
    model["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    model["text_cfg"] |= {"context_length": 76, "embed_cls": True, "output_tokens": True}
    model["multimodal_cfg"] = {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    model["custom_text"] = True
    return written(folder, config)


def with_hf_text(folder: Path, tiny_clip: Clip, tiny_model: Path) -> str:
    """With a text tower of transformers."""
    text = folder / "text"
    sizes = {"hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=200, **sizes)).save_pretrained(text)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, folder / name)
    config = json.loads((Path(tiny_clip.architecture.removeprefix("local-dir:")) / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": str(text),
        "hf_tokenizer_name": str(text),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    }
    return written(folder, config)


def written(folder: Path, config: dict[str, Any]) -> str:
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(5)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


@pytest.mark.parametrize("kind", ["coca", "hf"])
def test_a_tower_that_does_not_run_in_bfloat16_ends_no_run(
    tiny_clip: Clip, tiny_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda _device: True)
    architecture = coca(tmp_path, tiny_clip) if kind == "coca" else with_hf_text(tmp_path, tiny_clip, tiny_model)
    settings = OpenClipEncoder(architecture=architecture, pretrained="")
    PICTURE.save(tmp_path / "a.png")
    told = {"modality": "image", "sample": (str(tmp_path / "a.png"),), "store": "s", "fields": (), "store_text": False, "socket": "s"}
    assignment = Assignment(encoder=settings, model_path="", precision="auto", compute=Compute(num_workers=0), **told)
    encoder, facts = Start(assignment, RankPlacement(), ProcessGroup(1), Stopwatch()).encoder()
    assert np.isfinite(encoder.embed_queries(["a cat"])).all()
    assert np.isfinite(embed(encoder, PICTURE)).all()
    assert facts.precision == "float32"
    assert "the model does not run in bfloat16" in facts.note
    old = QueryEncoder(settings, model_path="", precision="bfloat16")  # pinned by an earlier version, which tried the pictures alone
    assert np.isfinite(old.embed_queries(["a cat"])).all()


def test_where_a_models_folder_is_is_no_part_of_its_identity(tiny_clip: Clip, tmp_path: Path) -> None:
    there, here = (OpenClipEncoder(architecture=f"local-dir:{folder}", pretrained="") for folder in (tmp_path / "a", tmp_path / "b"))
    for settings in (there, here):
        shutil.copytree(tiny_clip.architecture.removeprefix("local-dir:"), settings.architecture.removeprefix("local-dir:"))
    assert (there.preprocessing, there.declared) == (here.preprocessing, here.declared)
    assert locate_model(there).weights == locate_model(here).weights


def test_weights_that_do_not_fit_are_told_by_what_does_not(siglip: Path, tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(
        BadInput, match=r"its weights belong to another architecture: Missing key\(s\) in state_dict: \"positional_embedding\""
    ):
        opened(OpenClipEncoder(architecture=SIGLIP, pretrained=str(tmp_path / "other.pt")))
    torch.save({"state_dict": PICTURE}, tmp_path / "pickle.pt")
    with pytest.raises(
        BadInput,
        match=r"a pickle that holds more than tensors and could run code: save them as safetensors, or torch\.save\(model\.state_dict\(\)",
    ):
        opened(OpenClipEncoder(architecture=SIGLIP, pretrained=str(tmp_path / "pickle.pt")))


def test_a_tag_that_is_not_known_is_told_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"'laion3b' is neither a checkpoint file nor a tag of ViT-L/14 \(its tags: openai, laion400m_e31, "):
        opened(OpenClipEncoder(architecture="ViT-L/14", pretrained="laion3b"))


def test_a_folder_in_the_place_of_a_checkpoint_is_told_where_it_belongs(tiny_clip: Clip, tmp_path: Path) -> None:
    folder = tiny_clip.architecture.removeprefix("local-dir:")
    with pytest.raises(BadInput, match=f"is a folder: set encoder.architecture: local-dir:{folder}, and leave encoder.pretrained empty"):
        locate_model(OpenClipEncoder(architecture="ViT-B-32", pretrained=folder))
    (tmp_path / "epoch_1.pt").touch()
    with pytest.raises(BadInput, match=r"name a checkpoint in it \(epoch_1\.pt\)"):
        locate_model(OpenClipEncoder(architecture="ViT-B-32", pretrained=str(tmp_path)))


def test_without_shared_memory_pictures_are_decoded_here_or_the_setting_is_named(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(decode_workers.multiprocessing, "Semaphore", fail)
    monkeypatch.setattr(open_clip_encoder, "cores", lambda: 8)
    settings = OpenClipEncoder(architecture=tiny_clip.architecture, pretrained="")
    usual = opened(settings)
    usual.start()
    assert embed(usual, PICTURE).shape == (1, HIDDEN)
    named = opened(settings, compute=Compute(num_workers=2))
    with pytest.raises(
        BadInput, match=r"compute\.num_workers 2: .* /dev/shm \(\[Errno 30\] Read-only file system\): .* set compute\.num_workers: 0"
    ):
        named.start()
