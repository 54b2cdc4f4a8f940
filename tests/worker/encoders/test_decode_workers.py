"""Decoded images reach the model in the memory that they were collated in, which is pinned for a GPU."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from tasks.domain.job.encoder import OpenClipEncoder
from tasks.domain.job.job import Compute
from tasks.worker.encoders.decode_workers import as_one_tensor
from tasks.worker.encoders.registry import open_encoder
from tests.builders.models import Clip
from tests.builders.worker.pictures import saved, scene


def test_images_of_one_batch_are_stacked_without_a_copy() -> None:
    batch = torch.arange(5 * 3 * 2 * 2, dtype=torch.uint8).reshape(5, 3, 2, 2)
    for some in (list(batch.unbind(0)), list(batch.unbind(0))[2:], list(batch.unbind(0))[1:2]):
        stacked = as_one_tensor(some)
        assert stacked.data_ptr() == some[0].data_ptr()
        assert torch.equal(stacked, torch.stack(some))


@pytest.mark.parametrize("order", [[0, 2], [1, 0], [0, 0, 1], [0, 1, 3]])
def test_other_images_are_copied(order: list[int]) -> None:
    images = [torch.arange(24, dtype=torch.uint8).reshape(4, 6)[at] for at in order]
    assert torch.equal(as_one_tensor(images), torch.stack(images))
    apart = [torch.full((2, 2), float(at)) for at in order]
    assert torch.equal(as_one_tensor(apart), torch.stack(apart))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loaded_batch_is_encoded_from_the_memory_that_it_was_loaded_into(
    tiny_clip: Clip, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OpenClipEncoder(architecture=tiny_clip.architecture)
    encoder = open_encoder(settings, model_path="", precision="float32", compute=Compute(num_workers=workers, batch_rows=4))
    encoder.start()
    jpegs = [saved(scene(seed, 80, 60), "JPEG") for seed in range(6)]
    work = encoder.prepare(pa.table({"image": pa.array(jpegs, pa.large_binary()), "image_uri": pa.nulls(6, pa.string())}))
    batches = list(work.load(work.plan(range(6)), alone=False))
    monkeypatch.setattr(torch, "stack", None)  # nothing is copied into a new tensor
    assert [len(encoder.encode(batch.contents)) for batch in batches] == [4, 2]
    encoder.close()
