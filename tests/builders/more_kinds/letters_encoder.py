"""A kind of encoder that Kitestring does not have, and that needs no torch: a text's vector counts its letters.

This file and a line in the registry are all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.model_metadata import ModelShape
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import EncoderKind, EncoderSettings
from tasks.domain.shards.seal import EncodeStats
from tasks.worker.base import Batch, Vectors, unit_length

BATCH_ROWS = 16


class LettersEncoder(EncoderSettings):
    """Which letters are counted."""

    model_config = ConfigDict(title="Letters")

    kind: Literal["letters"] = "letters"
    letters: str = Field("abcdefghijklmnopqrstuvwxyz", min_length=1, description="Each is a dimension.")
    precision: Literal["auto", "float32"] = "auto"

    @property
    def model_name(self) -> str:
        return f"letters {self.letters[0]}-{self.letters[-1]}"


def locate(encoder: LettersEncoder) -> LocatedModel:
    return LocatedModel(path="", weights=digest(["letters", encoder.letters]), revision=None)


def shape(encoder: LettersEncoder, _located: LocatedModel) -> ModelShape:
    return ModelShape(dim=len(encoder.letters) + 1)


@dataclass
class LettersWork:
    texts: list[str]
    stats: EncodeStats
    ahead: int = 0
    loaded: int | None = None

    @property
    def sizes(self) -> list[int]:
        return [1] * len(self.texts)

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        return [chosen[at : at + BATCH_ROWS] for at in range(0, len(chosen), BATCH_ROWS)]

    def computed_tokens(self, batch: Sequence[int]) -> int:
        return 0

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
        yield from (Batch(rows=batch, contents=[self.texts[row] for row in batch]) for batch in batches)


class Letters:
    """See `tasks.worker.base.LoadedEncoder`."""

    def __init__(self, encoder: LettersEncoder, **_: Any) -> None:
        self._letters = encoder.letters

    def facts(self) -> EncoderFacts:
        return EncoderFacts(dim=len(self._letters) + 1, max_seq_length=None, precision="float32", device="cpu")

    def prepare(self, rows: pa.Table) -> LettersWork:
        return LettersWork(rows.column("text").to_pylist(), EncodeStats())

    def encode(self, contents: Sequence[Any]) -> Vectors:
        return unit_length(np.array([[1, *(text.count(letter) for letter in self._letters)] for text in contents]))

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self.encode(texts)

    def embed_pictures(self, places: list[str]) -> Vectors:
        raise BadInput(f"'{places[0]}' is a picture")

    def budgets(self) -> tuple[int, ...]:
        return ()

    def set_batch_tokens(self, tokens: int) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


LETTERS = EncoderKind(
    settings=LettersEncoder,
    worker=f"{__name__}:Letters",
    files=f"{__name__}:locate",
    shape=f"{__name__}:shape",
    modalities=("text",),
    needs_torch=False,
)
