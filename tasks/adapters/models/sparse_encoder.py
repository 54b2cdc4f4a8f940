"""Learned sparse encoders (SPLADE and similar), which map a text to weights of vocabulary terms: settings, files and metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from tasks.adapters.models.model_files import LocatedModel, located_folder, model_folder
from tasks.adapters.models.model_metadata import ModelShape, shape_of_text
from tasks.adapters.models.other_kinds import SPARSE, cure_of, other_kind
from tasks.adapters.models.prompts import modules_of, read_json, sides_of
from tasks.adapters.models.question_code import arguments
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import EncoderKind, TextModelEncoder
from tasks.domain.job.ui_schema import Count, Nothing


class SparseEncoder(TextModelEncoder):
    """Text to sparse vectors with a SparseEncoder of sentence-transformers."""

    model_config = ConfigDict(title="Sparse")

    kind: Literal["sparse"] = Field(
        "sparse",
        description="Text to weights of terms (SPLADE), with sentence-transformers. Needs Milvus Lite, Milvus 2.4 or later, or Zilliz Cloud.",
    )
    model: str = Field("naver/splade-cocondenser-ensembledistil", description="Hugging Face Hub name or local folder.")
    max_active_dims: Count | Nothing = Field(
        None,
        title="Terms",
        description="Keep only the N largest weights of a row. Left out: as many as the model's own configuration says.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of the computation. Another one gives other terms: compare with `kitestring evaluate`."
    )


def locate_sparse(encoder: SparseEncoder) -> LocatedModel:
    """Locate a sparse encoder.

    Raises:
        BadInput: there is no such model, or it is of another kind.
    """
    folder, revision = model_folder(encoder)
    masked = any("ForMaskedLM" in str(head) for head in read_json(folder / "config.json").get("architectures") or ())
    kind = other_kind(folder)
    if kind != SPARSE and not (masked and not modules_of(folder)):
        cure = cure_of(kind) if kind else ": use another encoder.kind, such as sentence-transformers"
        raise BadInput(
            f"encoder.model '{encoder.model}' is {kind or 'no sparse encoder'}: encoder.kind sparse takes models that weigh the words"
            f" of a vocabulary (SPLADE){cure}"
        )
    return located_folder(encoder, folder, revision)


def shape_of_sparse(encoder: SparseEncoder, located: LocatedModel) -> ModelShape:
    """Read the metadata of a sparse encoder; its dimension is the size of its vocabulary."""
    shape, folder = shape_of_text(encoder, located), Path(located.path)
    folders = [folder, *(folder / module for module, _ in modules_of(folder))]
    sizes = [read_json(path / "config.json").get("vocab_size") for path in folders]
    return ModelShape(dim=next(filter(None, sizes), None), limit=shape.limit, prompt=shape.prompt, tokenizer=shape.tokenizer)


def sparse_question(encoder: SparseEncoder, located: LocatedModel) -> str:
    """Return a snippet for sentence-transformers; `embed` returns weights by term, as pymilvus accepts them."""
    side = sides_of(encoder, Path(located.path)).questions
    options = {"revision": encoder.revision, "trust_remote_code": encoder.trust_remote_code or None}
    call = {"prompt": side.prompt, "task": side.task, "max_active_dims": encoder.max_active_dims}
    lines = [
        "from sentence_transformers import SparseEncoder",
        "",
        f"model = SparseEncoder({arguments(encoder.model, **options)})",
        *([f"model.max_seq_length = {encoder.max_seq_length}"] if encoder.max_seq_length else []),
        "",
        "def embed(words):",
        f"    weights = model.encode([words]{', ' if arguments(**call) else ''}{arguments(**call)}).coalesce()",
        "    return dict(zip(weights.indices()[1].tolist(), weights.values().tolist()))",
    ]
    return "\n".join(lines)


SPARSE_KIND = EncoderKind(
    settings=SparseEncoder,
    worker="tasks.worker.encoders.sparse:SparseTextEncoder",
    files="tasks.adapters.models.sparse_encoder:locate_sparse",
    shape="tasks.adapters.models.sparse_encoder:shape_of_sparse",
    modalities=("text",),
    counts_tokens=True,
    question="tasks.adapters.models.sparse_encoder:sparse_question",
    sparse=True,
)
