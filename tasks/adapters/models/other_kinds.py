"""Recognizes, by their folders, models that sentence-transformers loads but that do not give one vector a text."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.models.prompts import modules_of, read_json

RERANKER = "a cross-encoder, which scores pairs of texts"
SPARSE = "a sparse encoder (SPLADE), which weighs the words of a vocabulary"
LATE = "a late-interaction model (ColBERT), which gives a vector for each token"
MODEL_TYPES = {"CrossEncoder": RERANKER, "SparseEncoder": SPARSE, "MultiVectorEncoder": LATE, "ColBERT": LATE}
MODULES = {
    ".cross_encoder.": RERANKER,
    "LogitScore": RERANKER,
    ".sparse_encoder.": SPARSE,
    "Splade": SPARSE,
    "SparseAutoEncoder": SPARSE,
    "SparseStaticEmbedding": SPARSE,
    ".multi_vector_encoder.": LATE,
    "pylate.": LATE,
}
CURES = {  # what to use instead
    SPARSE: ": set encoder.kind: sparse",
    LATE: ", and no target's collections hold a vector for each token of a row: choose a model that gives one vector, or a sparse one with encoder.kind: sparse",
}
HEADS = {
    "ForSequenceClassification": "a classifier or cross-encoder",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a model that finds answers in a text",
    "ForMultipleChoice": "a model that chooses between answers",
    "ColBERT": LATE,
    "ColPali": LATE,
    "ColQwen": LATE,
    "ColIdefics": LATE,
    "ColModernVBert": LATE,
}


def cure_of(kind: str) -> str:
    """Return what to use instead of a model of this kind, as the end of a sentence; empty if there is no advice."""
    return next((cure for known, cure in CURES.items() if kind.startswith(known)), "")


def other_kind(folder: Path) -> str | None:
    """Describe the kind of a model that is not an embedding model, by its folder; None if it may be one."""
    model_type = str(read_json(folder / "config_sentence_transformers.json").get("model_type") or "SentenceTransformer")
    if model_type != "SentenceTransformer":
        return MODEL_TYPES.get(model_type, f"of the kind '{model_type}'")
    modules = [kind for _, kind in modules_of(folder)]
    if modules:
        return next((kind for module in modules for pattern, kind in MODULES.items() if pattern in module), None)
    heads = map(str, read_json(folder / "config.json").get("architectures") or ())
    return next((f"{kind} ({head})" for head in heads for pattern, kind in HEADS.items() if pattern in head), None)
