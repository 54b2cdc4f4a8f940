"""Embeds texts with sentence-transformers, in batches that this module plans.

`SentenceTransformer.encode` encodes; this module prepares its inputs. By default the library sorts by characters and fills batches by
count, so a batch may be mostly padding; here batches are filled to a number of tokens. The library also truncates long texts
silently; here lost tokens are counted. Contents of a batch are plain texts or carry their tokens (`tasks.worker.encoders.tokenizer`).
"""

from __future__ import annotations

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
from tasks.worker.encoders.text_model import first_module, learned_positions, load_text_model, text_dimension, token_limit
from tasks.worker.encoders.tokenizer import TokenizedText, Tokens
from tasks.worker.encoders.torch_errors import classified_errors
from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line
from tasks.worker.optimize.attention import use_plain_attention
from tasks.worker.optimize.eight_bits import has_eight_bits, loaded_in, replace_linear_layers
from tasks.worker.optimize.gpu_kernels import any_shape
from tasks.worker.optimize.onednn_weights import pack_weights
from tasks.worker.optimize.quality import PROBE_TEXTS, lowest_cosine
from tasks.worker.optimize.requirements import check_requirements
from tasks.worker.optimize.unpadded import remove_padding, why_padded
from tasks.worker.system.placement import RankPlacement

# Measured with all-MiniLM-L6-v2: above 2,000 tokens a batch no longer fits into the CPU's caches and gets slower.
CPU_TOKENS, CPU_ROWS = (1024, 512, 2048, 4096), 256
GPU_TOKENS, GPU_ROWS = (32_768, 16_384, 65_536, 131_072), 2048
LOWEST_BATCH_COSINE = 0.999  # cosine of a text's vectors alone and in a batch: a lower one is more than rounding
QUERIES_AT_ONCE = 32


@dataclass(slots=True, kw_only=True)
class TextWork:
    """Texts and their lengths in tokens."""

    texts: list[TokenizedText]
    sizes: list[int]
    stats: EncodeStats
    budget: int
    most_rows: int
    unpadded: bool = False  # nothing is padded
    equal_lengths: bool = False  # all texts of a batch have the same length
    ahead: int = 0
    loaded: int | None = None
    lost: Sequence[int] = ()  # tokens of each text that the model does not read

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        plan = plan_unpadded if self.unpadded else plan_batches
        batches = plan([self.sizes[i] for i in chosen], budget=self.budget, rows=self.most_rows)
        planned = [[chosen[i] for i in batch] for batch in batches]
        if not self.equal_lengths:
            return planned
        return [list(same) for batch in planned for _, same in groupby(batch, key=self.sizes.__getitem__)]

    def computed_tokens(self, batch: Sequence[int]) -> int:
        return sum(self.sizes[i] for i in batch) if self.unpadded else padded_size(batch, self.sizes)

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:  # noqa: ARG002 - there are no helper processes
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
            self._quantized = _use_openvino(self._model, encoder, precision, place, self._sides.rows.prompt)
        elif precision == "bfloat16" and not place.on_gpu and not isinstance(self._model[0], Router) and not place.sharing:
            use_plain_attention(self._model)
            pack_weights(self._model)
        side = self._sides.rows
        self._first = first_module(self._model, side.task)
        self._limit = token_limit(encoder, self._first, positions)
        self._dim = self._dimension()
        self._tokens = Tokens(self._model, self._first, prompt=side.prompt, task=side.task, limit=self._limit)
        self._padding_reason = self._remove_padding() if place.on_gpu else ""  # on CPUs batches are planned to have little padding
        self._equal_lengths = self._depends_on_batch()
        self._replaced = self._replace_layers()  # last: in 8 bits the vectors of the checks above would move by more
        tokens, rows = (GPU_TOKENS, GPU_ROWS) if place.on_gpu else (CPU_TOKENS, CPU_ROWS)
        self._budgets = tokens if compute.batch_tokens == "auto" else ()
        self._budget = tokens[0] if compute.batch_tokens == "auto" else compute.batch_tokens
        self._most_rows = rows if compute.batch_rows == "auto" else compute.batch_rows

    def _read_model(self, path: str, device: str) -> int | None:
        """Load the model, or this rank's shard of it; return the number of tokens that it has positions for."""
        dtype = "auto" if self._sharing else getattr(torch, loaded_in(self._precision) if self._backend == "torch" else "float32")
        self._model = load_text_model(self.library, self._settings, path, dtype, "cpu" if self._sharing else device)
        positions = learned_positions(first_module(self._model, self._sides.rows.task))
        if self._sharing is not None:
            from tasks.worker.optimize.fsdp import shard_weights  # noqa: PLC0415 - most runs do not need it

            shard_weights(self._model, self._sharing, precision=self._precision, device=device)
        return positions

    def _dimension(self) -> int:
        return text_dimension(self._settings, self._model)

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
        padded = (
            "attention without padding"
            if self._padding_reason is None
            else f"texts are padded: {self._padding_reason}"
            if self._padding_reason
            else ""
        )
        return "; ".join(filter(None, (self._replaced, shared, padded)))

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
        layout = {
            "budget": self._budget,
            "most_rows": self._most_rows,
            "unpadded": self._padding_reason is None,
            "equal_lengths": self._equal_lengths,
        }
        return TextWork(texts=texts, sizes=sizes, stats=stats, lost=lost, **layout)  # type: ignore[arg-type]

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
        # Normalised here in float32: the model would round each length to its own precision.
        return unit_length(vectors) if self._settings.scaled else np.asarray(vectors, dtype=np.float32)

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self._embed(texts, self._sides.questions, at_once=1 if self._equal_lengths else QUERIES_AT_ONCE)

    def _remove_padding(self) -> str | None:
        """Remove padding if possible; otherwise return why not."""
        reason = why_padded(self._device, loaded_in(self._precision)) if self._sharing is None else "processes share the weights"
        return remove_padding(self._model, self._both_sides) if reason is None else reason

    def _replace_layers(self) -> str:
        """Replace layers by 8-bit ones if the job asks for it; describe the result in words."""
        if not has_eight_bits(self._precision, self._backend):
            return ""
        self._quantized, note = LLM_INT8 if self._precision == "int8" else "", replace_linear_layers(self._model, self._precision)
        self._embed(PROBE_TEXTS, self._sides.rows, at_once=len(PROBE_TEXTS))  # a failure here would be one for every text
        return note

    def _both_sides(self, texts: list[str], at_once: int) -> list[Vectors]:
        return [self._embed(texts, side, at_once) for side in (self._sides.rows, self._sides.questions)]

    def _depends_on_batch(self) -> bool:
        """Return whether a text's vector depends on longer texts in its batch, as if positions are counted with the padding before it.

        Raises:
            BadInput: the model cannot embed any text, so the rows are not the cause.
        """
        try:
            alone, together = (self._embed(PROBE_TEXTS, self._sides.rows, at_once=at_once) for at_once in (1, len(PROBE_TEXTS)))
        except Fatal:
            raise
        except OutOfMemory:
            return False
        except Exception as error:
            failure = f"encoder.model '{self._settings.model}' cannot embed a text in {self._precision}"
            raise BadInput(f"{failure}: {first_line(error)}") from error
        return self._lowest(alone, together) < LOWEST_BATCH_COSINE

    def _lowest(self, one: Vectors, other: Vectors) -> float:
        """Return the lowest cosine between corresponding vectors, without zero vectors, which unknown words have."""
        some = one.any(axis=1)
        return lowest_cosine(unit_length(one[some]), unit_length(other[some]))

    def embed_pictures(self, places: list[str]) -> Vectors:
        raise BadInput(f"'{places[0]}' is an image, but encoder.model '{self._settings.model}' embeds text only")

    def budgets(self) -> tuple[int, ...]:
        return self._budgets

    def set_batch_tokens(self, tokens: int) -> None:
        self._budget = tokens

    def start(self) -> None:
        """Does nothing: there are no helper processes."""

    def close(self) -> None:
        """Does nothing: there are no helper processes."""


def _use_openvino(
    model: SentenceTransformer, encoder: TextModelEncoder, precision: Precision, place: RankPlacement, prompt: str | None
) -> str:
    """Run the transformer with OpenVINO; return the digest of the quantised model, empty unless int8."""
    from tasks.worker.optimize.openvino import use_openvino  # noqa: PLC0415 - most runs do not need it

    int8 = place.int8 if precision == "int8" else None
    return use_openvino(model, precision=precision, threads=place.threads, name=encoder.model, int8=int8, prompt=prompt)
