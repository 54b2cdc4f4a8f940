"""Text to vectors with sentence-transformers, in batches that this module plans.

`SentenceTransformer.encode` does the encoding; its inputs are prepared here. Left alone it sorts by characters and fills batches by count, so
that a batch may be mostly padding; here batches are filled to a number of tokens. It also cuts long texts without a word; here the tokens
that are lost are counted. Contents of a batch may be plain texts, or bring their tokens along (`tasks.worker.encoders.tokenizer`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from tasks.adapters.models.prompts import Side, sides_of
from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.encoding.length_bins import histogram
from tasks.domain.encoding.tuning import LLM_INT8, Backend
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import TextModelEncoder
from tasks.domain.job.job import Compute
from tasks.domain.shards.seal import EncodeStats
from tasks.worker.base import Batch, Vectors, unit_length
from tasks.worker.batching import padded_size, plan_batches, plan_unpadded
from tasks.worker.encoders.tokenizer import TokenizedText, Tokens
from tasks.worker.encoders.torch_errors import checkpoint_error, classified_errors
from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line
from tasks.worker.optimize.attention import use_plain_attention
from tasks.worker.optimize.eight_bits import has_eight_bits, loaded_in, replace_linear_layers
from tasks.worker.optimize.gpu_kernels import any_shape
from tasks.worker.optimize.onednn_weights import pack_weights
from tasks.worker.optimize.quality import PROBE_TEXTS, lowest_cosine
from tasks.worker.optimize.requirements import check_requirements
from tasks.worker.optimize.unpadded import remove_padding, why_padded
from tasks.worker.system.placement import RankPlacement

# Measured with all-MiniLM-L6-v2: above 2,000 tokens a batch leaves the CPU's caches and gets slower.
CPU_TOKENS, CPU_ROWS = (1024, 512, 2048, 4096), 256
GPU_TOKENS, GPU_ROWS = (32_768, 16_384, 65_536, 131_072), 2048
SAME_IN_COMPANY = 0.999  # cosine of a text's vectors alone and beside others: below it is more than rounding
QUESTIONS_AT_ONCE = 32
UNLIMITED = 10**9  # transformers says "no limit" with a number of 30 digits


@dataclass(slots=True, kw_only=True)
class TextWork:
    """Texts and their lengths in tokens."""

    texts: list[TokenizedText]
    sizes: list[int]
    stats: EncodeStats
    budget: int
    most_rows: int
    flat: bool = False  # nothing is padded
    alike: bool = False  # the texts of a batch have one length
    ahead: int = 0
    loaded: int | None = None
    lost: Sequence[int] = ()  # tokens of each that the model does not read

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        plan = plan_unpadded if self.flat else plan_batches
        batches = plan([self.sizes[i] for i in chosen], budget=self.budget, rows=self.most_rows)
        planned = [[chosen[i] for i in batch] for batch in batches]
        if not self.alike:
            return planned
        return [list(same) for batch in planned for _, same in groupby(batch, key=self.sizes.__getitem__)]

    def computed_tokens(self, batch: Sequence[int]) -> int:
        return sum(self.sizes[i] for i in batch) if self.flat else padded_size(batch, self.sizes)

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:  # noqa: ARG002 - nothing runs beside
        for batch in batches:
            yield Batch(rows=batch, contents=[self.texts[i] for i in batch])


class TextEncoder:
    """A sentence-transformers model. See `tasks.worker.base.LoadedEncoder`."""

    library: ClassVar[type[Any]] = SentenceTransformer

    def __init__(
        self,
        encoder: TextModelEncoder,
        *,
        model_path: str,
        precision: Precision,
        compute: Compute,
        place: RankPlacement,
        backend: Backend,
    ) -> None:
        self._settings, self._precision, self._backend, self._device, self._on_gpu = encoder, precision, backend, place.device, place.on_gpu
        check_requirements(precision, place, backend)
        self._sides = sides_of(encoder, Path(model_path))
        self._sharing = place.sharing
        with place.sharing.all_or_none() if place.sharing else nullcontext():
            positions = self._read_model(model_path, place.device)
        self._quantized = ""
        if backend == "openvino":
            self._quantized = _give_to_openvino(self._model, encoder, precision, place, self._sides.rows.prompt)
        elif precision == "bfloat16" and not place.on_gpu and not isinstance(self._model[0], Router) and not place.sharing:
            use_plain_attention(self._model)
            pack_weights(self._model)
        side = self._sides.rows
        self._first = _first_module(self._model, side.task)
        self._limit = _limit(encoder, self._first, positions)
        self._dim = self._dimension()
        self._tokens = Tokens(self._model, self._first, prompt=side.prompt, task=side.task, limit=self._limit)
        self._padded = self._why_padded() if place.on_gpu else ""  # on CPUs batches are planned so that they have little padding
        self._alike = self._changes_in_company()
        self._exchanged = self._exchange_layers()  # what was tried above moves by more in 8 bits
        tokens, rows = (GPU_TOKENS, GPU_ROWS) if place.on_gpu else (CPU_TOKENS, CPU_ROWS)
        self._budgets = tokens if compute.batch_tokens == "auto" else ()
        self._budget = tokens[0] if compute.batch_tokens == "auto" else compute.batch_tokens
        self._most_rows = rows if compute.batch_rows == "auto" else compute.batch_rows

    def _read_model(self, path: str, device: str) -> int | None:
        """Load it, or this rank's share of it; tokens that it has positions for."""
        dtype = "auto" if self._sharing else getattr(torch, loaded_in(self._precision) if self._backend == "torch" else "float32")
        self._model = _load(self.library, self._settings, path, dtype, "cpu" if self._sharing else device)
        positions = _positions(_first_module(self._model, self._sides.rows.task))
        if self._sharing is not None:
            from tasks.worker.optimize.fsdp import shard_weights  # noqa: PLC0415 - most runs have no use for it

            shard_weights(self._model, self._sharing, precision=self._precision, device=device)
        return positions

    def _dimension(self) -> int:
        return _dimension(self._settings, self._model)

    def facts(self) -> EncoderFacts:
        return EncoderFacts(
            dim=self._dim,
            max_seq_length=self._limit,
            precision=self._precision,
            device=self._device,
            note=self._note(),
            quantized=self._quantized,
        )

    def _note(self) -> str:
        shared = f"{self._sharing.ranks} processes share the weights" if self._sharing else ""
        padded = "attention without padding" if self._padded is None else f"texts are padded: {self._padded}" if self._padded else ""
        return "; ".join(filter(None, (self._exchanged, shared, padded)))

    def prepare(self, rows: pa.Table) -> TextWork:
        began = time.perf_counter()
        texts, sizes, whole = self._tokens.read(rows.column("text").to_pylist())
        stats = EncodeStats(
            tokens=sum(sizes),
            truncated=sum(size < full for size, full in zip(sizes, whole, strict=True)),
            tokens_cut=sum(whole) - sum(sizes),
            tokenize_seconds=time.perf_counter() - began,
            lengths=histogram(sizes),
            backend=self._backend,
        )
        lost = [full - size for size, full in zip(sizes, whole, strict=True)]
        how = {"budget": self._budget, "most_rows": self._most_rows, "flat": self._padded is None, "alike": self._alike}
        return TextWork(texts=texts, sizes=sizes, stats=stats, lost=lost, **how)  # type: ignore[arg-type]

    def encode(self, contents: Sequence[str]) -> Vectors:
        return self._embed(contents, self._sides.rows, at_once=max(1, len(contents)))

    def _embed(self, texts: Sequence[str], side: Side, at_once: int) -> Vectors:
        with classified_errors(), any_shape(on_gpu=self._on_gpu):
            model: Any = self._model
            vectors = model.encode(
                list(texts),
                batch_size=at_once,
                prompt=side.prompt,
                **({"task": side.task} if side.task else {}),
                truncate_dim=self._settings.cut_to,
                normalize_embeddings=False,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        # The scaling is done here, in float32: the model's own would round each length to the model's precision.
        return unit_length(vectors) if self._settings.scaled else np.asarray(vectors, dtype=np.float32)

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self._embed(texts, self._sides.questions, at_once=1 if self._alike else QUESTIONS_AT_ONCE)

    def _why_padded(self) -> str | None:
        """Leave padding out, if it can be; else why not."""
        reason = why_padded(self._device, loaded_in(self._precision)) if self._sharing is None else "processes share the weights"
        return remove_padding(self._model, self._both_sides) if reason is None else reason

    def _exchange_layers(self) -> str:
        """To compute in 8 bits, if the job says so; what was done, in words."""
        if not has_eight_bits(self._precision, self._backend):
            return ""
        self._quantized, told = LLM_INT8 if self._precision == "int8" else "", replace_linear_layers(self._model, self._precision)
        self._embed(PROBE_TEXTS, self._sides.rows, at_once=len(PROBE_TEXTS))  # if it fails, then for every text
        return told

    def _both_sides(self, texts: list[str], at_once: int) -> list[Vectors]:
        return [self._embed(texts, side, at_once) for side in (self._sides.rows, self._sides.questions)]

    def _changes_in_company(self) -> bool:
        """Whether a text has another vector beside longer ones, as where positions are counted with the padding before it.

        Raises:
            BadInput: the model embeds nothing: what fails for every text is no property of rows.
        """
        try:
            alone, together = (self._embed(PROBE_TEXTS, self._sides.rows, at_once=at_once) for at_once in (1, len(PROBE_TEXTS)))
        except Fatal:
            raise
        except OutOfMemory:
            return False
        except Exception as error:
            told = f"encoder.model '{self._settings.model}' cannot embed a text in {self._precision}"
            raise BadInput(f"{told}: {first_line(error)}") from error
        return self._lowest(alone, together) < SAME_IN_COMPANY

    def _lowest(self, one: Vectors, other: Vectors) -> float:
        """The lowest cosine of a vector to its like; those of words that it does not know are left out."""
        some = one.any(axis=1)
        return lowest_cosine(unit_length(one[some]), unit_length(other[some]))

    def embed_pictures(self, places: list[str]) -> Vectors:
        raise BadInput(f"'{places[0]}' is an image, but encoder.model '{self._settings.model}' embeds text only")

    def budgets(self) -> tuple[int, ...]:
        return self._budgets

    def set_batch_tokens(self, tokens: int) -> None:
        self._budget = tokens

    def start(self) -> None:
        """Nothing runs beside this process."""

    def close(self) -> None:
        """Nothing runs beside this process."""


def _load(library: type[Any], encoder: TextModelEncoder, model_path: str, dtype: torch.dtype | str, device: str) -> SentenceTransformer:
    """`library`: the class of sentence-transformers that reads it; a sparse one is used as a SentenceTransformer is, but for what `encode` gives."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return _padded(encoder, _read(library, encoder, model_path, dtype, device))
    except BadInput:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not encoder.trust_remote_code and _brings_code(Path(model_path)):
            cure = "read that code, and set encoder.trust_remote_code if you trust it"
            raise BadInput(f"encoder.model '{encoder.model}' comes with Python code of its own: {cure}") from error
        raise BadInput(f"encoder.model '{encoder.model}' cannot be loaded from {model_path}: {checkpoint_error(error)}") from error


def _padded(encoder: TextModelEncoder, model: SentenceTransformer) -> SentenceTransformer:
    """The model with a padding token. Where its tokenizer has none, the token that ends a text, as its family pads: it is masked."""
    for tokenizer in {id(found): found for found in map(_tokenizer, model.modules()) if found is not None}.values():
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            cure = "set pad_token in its tokenizer_config.json"
            raise BadInput(f"encoder.model '{encoder.model}': its tokenizer has no token to pad with: {cure}")
    return model


def _tokenizer(module: Any) -> Any:
    found = getattr(module, "tokenizer", None)
    return found if isinstance(found, transformers.PreTrainedTokenizerBase) else None


def _brings_code(folder: Path) -> bool:
    """Whether a model names Python code of its own: transformers' in `auto_map`, sentence-transformers' as the type of a module."""
    told = [json.loads(path.read_bytes()) for path in (folder / "config.json", folder / "modules.json") if path.is_file()]
    maps = [config for config in told if isinstance(config, dict) and "auto_map" in config]
    modules = [module for listed in told if isinstance(listed, list) for module in listed]
    return bool(maps) or not all(str(module["type"]).startswith("sentence_transformers.") for module in modules)


def _read(library: type[Any], encoder: TextModelEncoder, path: str, dtype: torch.dtype | str, device: str) -> Any:
    return library(
        path,
        device=device,
        local_files_only=True,
        trust_remote_code=encoder.trust_remote_code,
        model_kwargs={"dtype": dtype},
    )


def _give_to_openvino(
    model: SentenceTransformer, encoder: TextModelEncoder, precision: Precision, place: RankPlacement, prompt: str | None
) -> str:
    """Of int8 the digest of the quantised model."""
    from tasks.worker.optimize.openvino import use_openvino  # noqa: PLC0415 - most runs have no use for it

    int8 = place.int8 if precision == "int8" else None
    return use_openvino(model, precision=precision, threads=place.threads, name=encoder.model, int8=int8, prompt=prompt)


def _first_module(model: SentenceTransformer, task: str | None) -> Any:
    """What reads the texts of a task: the first module, or that of the route that a Router chooses."""
    first: Any = model[0]
    is_router = isinstance(first, Router)
    return first.sub_modules[first._resolve_route(task, "text")][0] if is_router else first  # noqa: SLF001


def _limit(encoder: TextModelEncoder, first: Any, positions: int | None) -> int | None:
    """Tokens that are read of a text. The library's own limit may be more than the model has positions for."""
    most = positions or _declared_positions(first)
    if encoder.max_seq_length is not None and most is not None and encoder.max_seq_length > most:
        raise BadInput(f"encoder.max_seq_length {encoder.max_seq_length}: the model has positions for {most} tokens")
    own: Any = getattr(first, "max_seq_length", None)
    known = [limit for limit in (encoder.max_seq_length or own, positions) if limit is not None and limit <= UNLIMITED]
    limit = min(known, default=None)
    if limit is not None and limit != own:
        first.max_seq_length = limit
    return limit


def _positions(first: Any) -> int | None:
    """Tokens that the model has positions for, where it has learned one for each."""
    for module in first.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            before = getattr(module, "padding_idx", None)  # RoBERTa and its kin count from the position after the padding's
            return table.num_embeddings - (before + 1 if isinstance(before, int) else 0)
    return None


def _declared_positions(first: Any) -> int | None:
    """What the model's configuration says; it may compute positions beyond."""
    config = getattr(first, "config", None)
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions if getattr(config, "position_embedding_type", "absolute") == "absolute" else None


def _dimension(encoder: TextModelEncoder, model: SentenceTransformer) -> int:
    dim: int | None = model.get_embedding_dimension()
    if dim is None:  # a model that does not say
        dim = int(model.encode(["dimension"], show_progress_bar=False).shape[1])
    if encoder.cut_to is not None and encoder.cut_to > dim:
        raise BadInput(f"encoder.truncate_dim {encoder.cut_to}: the model gives only {dim} dimensions")
    return encoder.cut_to or dim
