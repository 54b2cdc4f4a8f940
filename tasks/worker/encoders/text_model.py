"""Loads text models of sentence-transformers, and reads their limits: tokens, positions, dimension."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import TextModelEncoder
from tasks.worker.encoders.torch_errors import checkpoint_error

UNLIMITED = 10**9  # transformers expresses "no limit" as a number of 30 digits


def load_text_model(
    library: type[Any], encoder: TextModelEncoder, model_path: str, dtype: torch.dtype | str, device: str
) -> SentenceTransformer:
    """Load a model. `library`: a class of sentence-transformers; SparseEncoder differs only in the result of `encode`."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return _with_padding_token(encoder, _read(library, encoder, model_path, dtype, device))
    except BadInput:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not encoder.trust_remote_code and _brings_code(Path(model_path)):
            cure = "read that code, and set encoder.trust_remote_code if you trust it"
            raise BadInput(f"encoder.model '{encoder.model}' comes with Python code of its own: {cure}") from error
        raise BadInput(f"encoder.model '{encoder.model}' cannot be loaded from {model_path}: {checkpoint_error(error)}") from error


def _with_padding_token(encoder: TextModelEncoder, model: SentenceTransformer) -> SentenceTransformer:
    """Return the model with a padding token. A tokenizer without one gets its end-of-text token, as usual for such models: it is masked."""
    for tokenizer in {id(each): each for each in map(_tokenizer, model.modules()) if each is not None}.values():
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            cure = "set pad_token in its tokenizer_config.json"
            raise BadInput(f"encoder.model '{encoder.model}': its tokenizer has no token to pad with: {cure}")
    return model


def _tokenizer(module: Any) -> Any:
    tokenizer = getattr(module, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, transformers.PreTrainedTokenizerBase) else None


def _brings_code(folder: Path) -> bool:
    """Return whether a model has its own Python code: `auto_map` in transformers' config, or a module type in sentence-transformers'."""
    configs = [json.loads(path.read_bytes()) for path in (folder / "config.json", folder / "modules.json") if path.is_file()]
    maps = [config for config in configs if isinstance(config, dict) and "auto_map" in config]
    modules = [module for listed in configs if isinstance(listed, list) for module in listed]
    return bool(maps) or not all(str(module["type"]).startswith("sentence_transformers.") for module in modules)


def _read(library: type[Any], encoder: TextModelEncoder, path: str, dtype: torch.dtype | str, device: str) -> Any:
    return library(
        path,
        device=device,
        local_files_only=True,
        trust_remote_code=encoder.trust_remote_code,
        model_kwargs={"dtype": dtype},
    )


def first_module(model: SentenceTransformer, task: str | None) -> Any:
    """Return the module that reads the texts of a task: the first one, or the first one of the Router's route."""
    first: Any = model[0]
    is_router = isinstance(first, Router)
    return first.sub_modules[first._resolve_route(task, "text")][0] if is_router else first  # noqa: SLF001


def token_limit(encoder: TextModelEncoder, first: Any, positions: int | None) -> int | None:
    """Return how many tokens of a text are read, and set the library's limit, which may exceed the model's positions."""
    most = positions or _declared_positions(first)
    if encoder.max_seq_length is not None and most is not None and encoder.max_seq_length > most:
        raise BadInput(f"encoder.max_seq_length {encoder.max_seq_length}: the model has positions for {most} tokens")
    own: Any = getattr(first, "max_seq_length", None)
    known = [limit for limit in (encoder.max_seq_length or own, positions) if limit is not None and limit <= UNLIMITED]
    limit = min(known, default=None)
    if limit is not None and limit != own:
        first.max_seq_length = limit
    return limit


def learned_positions(first: Any) -> int | None:
    """Return the number of tokens that a model with learned position embeddings has positions for."""
    for module in first.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            before = getattr(module, "padding_idx", None)  # RoBERTa and related models start after the padding index
            return table.num_embeddings - (before + 1 if isinstance(before, int) else 0)
    return None


def _declared_positions(first: Any) -> int | None:
    """Return the number of positions in the model's configuration; a model with computed positions may have more."""
    config = getattr(first, "config", None)
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions if getattr(config, "position_embedding_type", "absolute") == "absolute" else None


def text_dimension(encoder: TextModelEncoder, model: SentenceTransformer) -> int:
    dim: int | None = model.get_embedding_dimension()
    if dim is None:  # a model that does not declare it
        dim = int(model.encode(["dimension"], show_progress_bar=False).shape[1])
    if encoder.cut_to is not None and encoder.cut_to > dim:
        raise BadInput(f"encoder.truncate_dim {encoder.cut_to}: the model has only {dim} dimensions")
    return encoder.cut_to or dim
