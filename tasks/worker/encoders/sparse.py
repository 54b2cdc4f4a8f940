"""Embeds texts as sparse vectors with sentence-transformers' SparseEncoder; batches, tokens and errors are handled as for dense ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sentence_transformers import SparseEncoder

from tasks.adapters.models.prompts import Side
from tasks.adapters.rows.vectors.sparse_vectors import as_rows_of, pack, products
from tasks.worker.base import Vectors
from tasks.worker.encoders.sentence_transformers import TextEncoder
from tasks.worker.encoders.torch_errors import classified_errors
from tasks.worker.optimize.gpu_kernels import any_shape


class SparseTextEncoder(TextEncoder):
    """A sparse encoder. See `tasks.worker.base.LoadedEncoder`; its vectors are packed rows."""

    library: ClassVar[type[Any]] = SparseEncoder

    def _dimension(self) -> int:
        """Read the dimension from a vector: unless SpladePooling declares it, the library (6.2) returns the transformer's hidden size."""
        return int(self._model.encode(["dimension"], show_progress_bar=False).shape[1])

    def _remove_padding(self) -> str | None:
        return "the pooling of sparse encoders needs padded texts"

    def _embed(self, texts: Sequence[str], side: Side, at_once: int) -> Vectors:
        most: int | None = getattr(self._settings, "max_active_dims", None)
        with classified_errors(), any_shape(on_gpu=self._on_gpu):
            model: Any = self._model
            weights = model.encode(
                list(texts),
                batch_size=at_once,
                prompt=side.prompt,
                **({"task": side.task} if side.task else {}),
                **({"max_active_dims": most} if most else {}),
                convert_to_sparse_tensor=True,
                save_to_cpu=True,
                show_progress_bar=False,
            ).coalesce()
        rows, terms = weights.indices().numpy()
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(texts)))])
        return pack(offsets, terms, weights.values().float().numpy())

    def _lowest(self, one: Vectors, other: Vectors) -> float:
        pairs = [as_rows_of(pair) for pair in zip(one, other, strict=True) if all(pair)]
        grams = [products(pair, pair).astype(float) for pair in pairs]
        return min((float(each[0, 1] / np.sqrt(each[0, 0] * each[1, 1])) for each in grams), default=1.0)
