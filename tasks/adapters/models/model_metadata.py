"""A model's metadata from its own small files, read without torch: dimension, token limit, prompt, tokenizer.

A value that the files do not contain is None: only the loaded model knows it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.prompts import modules_of, read_json, sides_of
from tasks.domain.job.encoder import ENCODERS, Encoder, OpenClipEncoder, TextModelEncoder
from tasks.domain.job.kinds import declared_at

CHARACTERS_A_TOKEN = 4  # a rough estimate without a tokenizer, about right for English text
LONGEST_TOKEN = 16  # characters; this many of a text for each token of the limit suffice to reach the limit
# Model types whose positions start after the padding token's id.
COUNTS_AFTER_PADDING = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"}
NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """An encoder's dimension, token limit, prompt for rows, and the file of its tokenizer."""

    dim: int | None
    limit: int | None = None
    prompt: str = ""
    tokenizer: Path | None = None


def shape_of(encoder: Encoder, located: LocatedModel) -> ModelShape:
    """Read the metadata of a located model."""
    shape: ModelShape = declared_at(ENCODERS[encoder.kind].shape)(encoder, located)
    return shape


def shape_of_text(encoder: TextModelEncoder, located: LocatedModel) -> ModelShape:
    """Read the metadata of a sentence-transformers model."""
    folder = Path(located.path)
    modules = modules_of(folder) or [("", "Transformer")]
    sizes = [_dim(folder, *module) for module in modules]
    whole = next((size for size in reversed(sizes) if size), None)
    text = folder / modules[0][0]
    tokenizer = text / "tokenizer.json"
    return ModelShape(
        dim=encoder.cut_to or whole,
        limit=encoder.max_seq_length or _limit(text),
        prompt=sides_of(encoder, folder).rows.prompt,
        tokenizer=tokenizer if tokenizer.is_file() else None,
    )


def shape_of_clip(encoder: OpenClipEncoder, _located: LocatedModel) -> ModelShape:
    """Read the metadata of an open_clip model."""
    return ModelShape(dim=_clip_dim(encoder))


class TokenCounter:
    """Counts the tokens of texts that a model reads: including its prompt and special tokens, excluding truncated ones.

    `name` names the tokenizer; it is empty if the count is an estimate of four characters a token.
    """

    def __init__(self, shape: ModelShape) -> None:
        self._prompt, self._limit = shape.prompt, shape.limit
        self._tokenizer = _open_tokenizer(shape.tokenizer) if shape.tokenizer else None
        self.name = "the model's own tokenizer" if self._tokenizer else ""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text. Text far beyond the model's limit is not tokenized."""
        longest = self._limit * LONGEST_TOKEN + len(self._prompt) if self._limit else None
        heads = [(self._prompt + text)[:longest] for text in texts]
        if self._tokenizer:
            counts = [len(encoding) for encoding in self._tokenizer.encode_batch_fast(heads)]
        else:
            counts = [2 + len(head) // CHARACTERS_A_TOKEN for head in heads]
        return [min(count, self._limit) if self._limit else count for count in counts]


def _open_tokenizer(path: Path) -> Tokenizer | None:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001 - the library raises bare Exception, also for a file of a newer version
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _dim(folder: Path, path: str, kind: str) -> int | None:
    """Return the output dimension of a module that sets it."""
    config = read_json(folder / path / "config.json")
    if kind.endswith("Pooling"):
        return _whole(config.get("embedding_dimension", config.get("word_embedding_dimension")))
    return _whole(config.get("out_features") if kind.endswith("Dense") else config.get("hidden_size"))


def _limit(folder: Path) -> int | None:
    """Return the token limit by the rule of sentence-transformers: its own setting or the tokenizer's, capped by the model's positions."""
    configured = _whole(read_json(folder / "sentence_bert_config.json").get("max_seq_length"))
    longest = configured or _whole(read_json(folder / "tokenizer_config.json").get("model_max_length"))
    config = read_json(folder / "config.json")
    positions = _whole(config.get("max_position_embeddings"))
    if after := positions is not None and config.get("model_type") in COUNTS_AFTER_PADDING:
        positions -= 1 + int(config.get("pad_token_id") or 0)
    known = [number for number in (longest, None if configured and not after else positions) if number]
    return min(known, default=None)


def _clip_dim(encoder: OpenClipEncoder) -> int | None:
    name = encoder.architecture
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        return _whole(read_json(folder / "open_clip_config.json").get("model_cfg", NOTHING).get("embed_dim"))
    package = importlib.util.find_spec("open_clip")
    folders = (package.submodule_search_locations if package else None) or []
    configs = [read_json(Path(place, "model_configs", f"{name.replace('/', '-')}.json")) for place in folders]
    return next((dim for config in configs if (dim := _whole(config.get("embed_dim")))), None)


def _whole(number: object) -> int | None:
    """Return a plausible count or None; transformers writes "no limit" as a number of 30 digits."""
    return number if isinstance(number, int) and 0 < number < 10**9 else None
