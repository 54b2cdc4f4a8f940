"""Models that are no embedding models of one vector a text, though sentence-transformers would load them: by what their folders say."""

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
    """What to use instead of a model of this kind, as the end of a sentence; empty: nothing is to be said."""
    return next((cure for known, cure in CURES.items() if kind.startswith(known)), "")


def other_kind(folder: Path) -> str | None:
    """The kind of a model that is no embedding model, by its folder; None: it may be one."""
    told = str(read_json(folder / "config_sentence_transformers.json").get("model_type") or "SentenceTransformer")
    if told != "SentenceTransformer":
        return MODEL_TYPES.get(told, f"of the kind '{told}'")
    modules = [kind for _, kind in modules_of(folder)]
    if modules:
        return next((what for module in modules for sign, what in MODULES.items() if sign in module), None)
    heads = map(str, read_json(folder / "config.json").get("architectures") or ())
    return next((f"{what} ({head})" for head in heads for sign, what in HEADS.items() if sign in head), None)
