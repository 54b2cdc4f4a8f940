"""Embeds images with open_clip, and texts into the same space with its text tower, for rows and queries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
from open_clip.transform import ResizeKeepRatio
from torchvision.transforms import Compose, Normalize, PILToTensor, Resize, ToTensor

from tasks.adapters.models.clip_preprocessing import family_preprocessing
from tasks.adapters.processes.hardware import cores
from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.encoding.tuning import Backend
from tasks.domain.errors import BadInput, Transient
from tasks.domain.job.encoder import OpenClipEncoder
from tasks.domain.job.job import Compute
from tasks.domain.shards.seal import EncodeStats
from tasks.worker.base import Batch, Vectors, unit_length
from tasks.worker.encoders.decode_workers import Decoding, Load, as_one_tensor, no_shared_memory
from tasks.worker.encoders.image_decoder import Decoder, Picture
from tasks.worker.encoders.open_clip_text import Captions, CaptionWork
from tasks.worker.encoders.torch_errors import checkpoint_error, classified_errors
from tasks.worker.system.placement import RankPlacement

CPU_ROWS, GPU_ROWS = 16, 256
TOKENS = 2  # number of dimensions of a batch of texts; a batch of images has 4
CLIP_PRECISION: dict[Precision, str] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
MOST_WORKERS = 8


@dataclass(slots=True, kw_only=True)
class ImageWork:
    """Encoded images, decoded batch by batch."""

    rows: pa.Table
    sizes: list[int]
    stats: EncodeStats
    decoding: Decoding
    most_rows: int

    @property
    def ahead(self) -> int:
        return self.decoding.ahead

    @property
    def loaded(self) -> int | None:
        return self.decoding.decoded

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        return [chosen[at : at + self.most_rows] for at in range(0, len(chosen), self.most_rows)]

    def computed_tokens(self, batch: Sequence[int]) -> int:  # noqa: ARG002 - images are not tokens
        return 0

    def _picture(self, row: int) -> Picture:
        return self.rows.column("image")[row].as_py(), self.rows.column("image_uri")[row].as_py()

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
        loads = self.decoding.run(([self._picture(i) for i in batch] for batch in batches), alone=alone)
        for batch, load in zip(batches, loads, strict=True):
            yield _batch(batch, load)


def _batch(rows: list[int], load: Load) -> Batch:
    tensors, errors = load
    for error in errors:
        if isinstance(error, Transient):
            raise error
    good = [row for row, error in zip(rows, errors, strict=True) if error is None]
    refused = [(row, error) for row, error in zip(rows, errors, strict=True) if isinstance(error, str)]
    return Batch(rows=good, contents=list(tensors.unbind(0)) if good else [], refused=refused)


class ImageEncoder:
    """An open_clip model. See `tasks.worker.base.LoadedEncoder`."""

    def __init__(
        self, encoder: OpenClipEncoder, *, model_path: str, precision: Precision, compute: Compute, place: RankPlacement, backend: Backend
    ) -> None:
        self._settings, self._precision, self._device, self._backend = encoder, precision, place.device, backend
        self._model, transform, self._note = _load(encoder, model_path, precision, place.device)
        transform, self._normalize = _split(transform)
        self._input = open_clip.get_input_dtype(CLIP_PRECISION[precision])
        self._captions = Captions(encoder.architecture)
        self._most_rows = (GPU_ROWS if place.on_gpu else CPU_ROWS) if compute.batch_rows == "auto" else compute.batch_rows
        smallest = None if encoder.exact else self._size()[::-1]
        self._decoder = Decoder(
            transform=transform,
            max_pixels=encoder.max_pixels,
            smallest=smallest,
            covered=self._covered(transform),
            references=place.references,
        )
        self._decoding = Decoding(
            self._decoder,
            workers=_workers(place) if compute.num_workers == "auto" else compute.num_workers,
            pin_memory=place.on_gpu if compute.pin_memory == "auto" else compute.pin_memory,
        )
        self._dim = int(self._embed_nothing().shape[1])

    def _embed_nothing(self) -> Vectors:
        """Encode a black image, to learn the dimension and to warm up the model."""
        return self.encode([torch.zeros(3, *self._size(), dtype=torch.uint8 if self._normalize else torch.float32)])

    def _size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        size: Any = self._model.visual.image_size
        height, width = size if isinstance(size, tuple | list) else (size, size)
        return int(height), int(width)

    def _covered(self, transform: Any) -> tuple[int, int] | None:
        """Width and height that images are resized to cover; None if they are resized to fit in, or without keeping proportions."""
        first = next(iter(getattr(transform, "transforms", [])), None)
        covers = isinstance(first, Resize) and isinstance(first.size, int)
        return self._size()[::-1] if covers or (isinstance(first, ResizeKeepRatio) and not first.longest) else None

    def facts(self) -> EncoderFacts:
        return EncoderFacts(dim=self._dim, max_seq_length=None, precision=self._precision, device=self._device, note=self._note)

    def prepare(self, rows: pa.Table) -> ImageWork | CaptionWork:
        if "image" not in rows.column_names:
            return self._captions.prepare(rows.column("text").to_pylist(), self._most_rows)
        stats = EncodeStats(backend=self._backend)
        return ImageWork(rows=rows, sizes=[1] * rows.num_rows, stats=stats, decoding=self._decoding, most_rows=self._most_rows)

    def encode(self, contents: Sequence[torch.Tensor]) -> Vectors:
        with classified_errors(), torch.inference_mode():
            batch = as_one_tensor(contents).to(self._device, non_blocking=True)
            if batch.dim() == TOKENS:
                return self._finish(self._model.encode_text(batch))
            if self._normalize:
                batch = self._normalize(batch.float().div_(255))
            return self._finish(self._model.encode_image(batch.to(self._input)))

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self.encode(list(self._captions.tokens(texts)))

    def embed_pictures(self, places: list[str]) -> Vectors:
        return self.encode([self._opened(place) for place in places])

    def _opened(self, place: str) -> torch.Tensor:
        decoded = self._decoder((None, place))
        if isinstance(decoded, Transient):
            raise decoded
        if isinstance(decoded, str):
            raise BadInput(decoded)
        return decoded

    def _finish(self, features: torch.Tensor) -> Vectors:
        vectors = features.float().cpu().numpy()
        return unit_length(vectors) if self._settings.normalize else np.asarray(vectors, dtype=np.float32)

    def budgets(self) -> tuple[int, ...]:
        return ()

    def set_batch_tokens(self, tokens: int) -> None:
        """Does nothing: image batches are counted in rows."""

    def start(self) -> None:
        self._decoding.start()

    def close(self) -> None:
        self._decoding.close()


def _split(transform: Any) -> tuple[Any, Any]:
    """Split open_clip's transform into decoding and normalisation: normalising on the device transfers a quarter of the bytes.

    Returns the whole transform and None if it does not end with the expected steps.
    """
    steps = list(getattr(transform, "transforms", []))
    if len(steps) < 2 or not isinstance(steps[-2], ToTensor) or not isinstance(steps[-1], Normalize):
        return transform, None
    return Compose([*steps[:-2], PILToTensor()]), steps[-1]


def _workers(place: RankPlacement) -> int:
    """Return the number of decode workers: 0 with two or fewer cores per rank, where they would only compete with the model."""
    own = cores() // place.ranks
    few = own <= 2 and not place.on_gpu
    return 0 if few or no_shared_memory() else max(1, min(MOST_WORKERS, own - 1))


def _load(encoder: OpenClipEncoder, model_path: str, precision: Precision, device: str) -> tuple[Any, Any, str]:
    """Load the model and its transform; return them with a note on open_clip's warnings."""
    # A folder or a hub name includes weights; otherwise open_clip would start with random ones, hence `from_pretrained`.
    brings_weights = encoder.architecture.startswith(("local-dir:", "hf-hub:"))
    if not brings_weights:
        _refuse_unknown_tag(encoder, model_path)
    try:
        with warnings.catch_warnings(action="always", record=True) as caught, _silent_root():
            model, transform = open_clip.create_model_from_pretrained(
                encoder.architecture,
                pretrained=None if brings_weights else model_path,
                precision=CLIP_PRECISION[precision],
                device=device,
                weights_only=True,
                force_quick_gelu=encoder.quick_gelu,
                force_image_size=encoder.image_size,
                **_preprocessing(encoder),
            )
    except Exception as error:
        name = encoder.architecture if brings_weights else f"{encoder.architecture}' with encoder.pretrained '{encoder.pretrained}"
        raise BadInput(f"encoder.architecture '{name}' cannot be loaded: {checkpoint_error(error)}") from error
    mismatch = any("QuickGELU mismatch" in str(warning.message) for warning in caught)
    note = f"these weights were {'not ' if encoder.quick_gelu else ''}trained with QuickGELU: set encoder.quick_gelu: {str(not encoder.quick_gelu).lower()}"
    return model.eval(), transform, note if mismatch else ""


def _preprocessing(encoder: OpenClipEncoder) -> dict[str, Any]:
    """Return the settings for open_clip; it takes the others from the tag or the folder, or uses CLIP's."""
    explicit = {name: getattr(encoder, name) for name in ("mean", "std", "interpolation", "resize_mode")}
    settings = {**explicit, **family_preprocessing(encoder)}
    return {f"image_{name}": value for name, value in settings.items() if value is not None}


def _refuse_unknown_tag(encoder: OpenClipEncoder, tag: str) -> None:
    if os.path.isfile(tag) or open_clip.get_pretrained_cfg(encoder.architecture, tag):  # noqa: PTH113 - it may be a tag instead of a path
        return
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(encoder.architecture.replace("/", "-"))) or "none"
    raise BadInput(f"encoder.pretrained: '{tag}' is neither a checkpoint file nor a tag of {encoder.architecture} (its tags: {tags})")


@contextmanager
def _silent_root() -> Iterator[None]:
    """Silence logging during the block: open_clip logs its failures to the root logger in addition to raising them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
