"""Python snippets with which an application embeds a question as this job does, by kind of encoder, from its settings and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.prompts import sides_of
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder


def text_question(encoder: SentenceTransformersEncoder, located: LocatedModel) -> str:
    """Return a snippet for sentence-transformers."""
    side = sides_of(encoder, Path(located.path)).questions
    options = {"revision": encoder.revision, "truncate_dim": encoder.truncate_dim, "trust_remote_code": encoder.trust_remote_code or None}
    call = {"prompt": side.prompt, "task": side.task, "normalize_embeddings": encoder.normalize}
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({arguments(encoder.model, **options)})",
        *([f"model.max_seq_length = {encoder.max_seq_length}"] if encoder.max_seq_length else []),
        "",
        "def embed(words):",
        f"    return model.encode(words, {arguments(**call)})",
    ]
    return "\n".join(lines)


def clip_question(encoder: OpenClipEncoder, located: LocatedModel) -> str:  # noqa: ARG001 - the signature of every kind
    """Return a snippet for open_clip, which embeds texts and images in one space."""
    options = {"pretrained": encoder.pretrained or None, "force_quick_gelu": encoder.quick_gelu or None}
    lines = [
        "import open_clip",
        "import torch",
        "",
        f"model, preprocess = open_clip.create_model_from_pretrained({arguments(encoder.architecture, **options)})",
        f"tokenizer = open_clip.get_tokenizer({encoder.architecture!r})",
        "",
        "def embed(words):",
        "    with torch.no_grad():",
        f"        return model.eval().encode_text(tokenizer([words]), normalize={encoder.normalize})[0].numpy()",
    ]
    return "\n".join(lines)


def arguments(*positional: Any, **named: Any) -> str:
    """Format the arguments of a call, omitting named ones that are None or empty."""
    return ", ".join([*map(repr, positional), *(f"{name}={value!r}" for name, value in named.items() if value is not None and value != "")])
