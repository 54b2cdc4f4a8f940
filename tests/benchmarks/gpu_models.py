"""Models of well-known shapes with random weights, in the libraries' own formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import minilm

TOKENS = 512
TEXTS: dict[str, dict[str, Any]] = {
    "all-MiniLM-L6": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bge-large": {"model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "0.6B decoder": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
    },
}
CLIPS = ("ViT-B-32", "ViT-L-14")
VOCABULARY = 30_522
QUICK = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
QUICK_DECODER = {"num_key_value_heads": 2, "head_dim": 16}


def write_text_model(folder: Path, name: str, *, quick: bool) -> Path:
    """A sentence-transformers model of that shape, with the tokenizer of all-MiniLM-L6-v2; quick: a small one of its kind."""
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415

    shape = TEXTS[name]
    decoder = "head_dim" in shape
    small = (QUICK | (QUICK_DECODER if decoder else {})) if quick else {}
    kind, sizes = shape["model_type"], {key: value for key, value in (shape | small).items() if key != "model_type"}
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, max_position_embeddings=TOKENS, pad_token_id=0, **sizes)
    path = folder / name.replace(" ", "-")
    AutoModel.from_config(config).save_pretrained(path)
    for file in (*minilm().glob("tokenizer*"), *minilm().glob("vocab*"), *minilm().glob("special*")):
        shutil.copy(file, path / file.name)
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_lasttoken" if decoder else "pooling_mode_mean_tokens": True}
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    (path / "1_Pooling").mkdir()
    _write(path / "1_Pooling" / "config.json", pooling)
    _write(path / "sentence_bert_config.json", {"max_seq_length": TOKENS, "do_lower_case": False})
    _write(path / "modules.json", [{"idx": n, "name": str(n), "path": where, "type": kind} for n, (where, kind) in enumerate(modules)])
    return path


def write_clip(folder: Path, name: str, *, quick: bool) -> str:
    """An open_clip model of that architecture in a folder; what a job would name it."""
    import open_clip  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    path = folder / name
    path.mkdir()
    config = open_clip.get_model_config(name)
    if quick:
        config["vision_cfg"] |= {"layers": 1, "width": 128, "head_width": 64}
        config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2}
    _write(path / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {}})
    architecture = f"local-dir:{path}"
    shape = {key: value for key, value in config.items() if key != "custom_text"}
    model = open_clip.CLIP(**shape)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(path / "open_clip_model.safetensors"))
    return architecture


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
