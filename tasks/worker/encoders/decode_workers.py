"""Decodes images in worker processes of torch's DataLoader, or in this process."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tasks.adapters.processes.process_guard import die_with_parent
from tasks.domain.errors import BadInput, Transient
from tasks.worker.encoders.image_decoder import Decoded, Decoder, Picture
from tasks.worker.encoding_errors import Fatal, first_line

PREFETCH = 2  # batches per worker

Load = tuple[torch.Tensor, list[str | Transient | None]]  # the decoded images, stacked; for each image None or its error


class _Pictures(Dataset[Decoded]):
    """A dataset indexed by the image itself, not by a number, so that workers persist from piece to piece."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        # Shared with the forked workers without a file in /dev/shm. Concurrent increments may be lost; it only has to grow.
        self.count = ctypes.c_uint64.from_buffer(mmap.mmap(-1, ctypes.sizeof(ctypes.c_uint64)))

    def __getitem__(self, index: Any) -> Decoded:
        try:
            return self._decoder(index)
        finally:
            self.count.value += 1


class _Feed:
    """Batch sampler of the DataLoader: yields the batches of the current piece."""

    def __init__(self) -> None:
        self.batches: Iterable[list[Picture]] = ()

    def __iter__(self) -> Iterator[list[Picture]]:
        return iter(self.batches)


def _collate(decoded: list[Decoded]) -> Load:
    """Stack a batch into one tensor: each tensor passed between processes costs a file descriptor."""
    tensors = [d for d in decoded if isinstance(d, torch.Tensor)]
    stacked = torch.stack(tensors) if tensors else torch.empty(0)
    return stacked, [None if isinstance(d, torch.Tensor) else d for d in decoded]


def as_one_tensor(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack tensors of one shape, without a copy if they are neighbours in one tensor, as those of a loaded batch.

    A copy would be in memory that is not pinned, and its transfer to a GPU would wait.
    """
    first, size = images[0], images[0].numel()
    storage, begin = first.untyped_storage().data_ptr(), first.storage_offset()
    neighbours = first.is_contiguous() and all(
        (image.untyped_storage().data_ptr(), image.storage_offset(), image.dtype, image.shape)
        == (storage, begin + at * size, first.dtype, first.shape)
        for at, image in enumerate(images)
    )
    return first.as_strided((len(images), *first.shape), (size, *first.stride())) if neighbours else torch.stack(list(images))


def _init_worker(_worker: int) -> None:
    die_with_parent()


def no_shared_memory() -> str:
    """Return why processes cannot share tensors on this machine; empty if they can."""
    try:
        multiprocessing.Semaphore()
        torch.empty(1).share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return first_line(error)
    return ""


class Decoding:
    """Decodes batches in order; workers decode up to `ahead` batches beyond the yielded one."""

    def __init__(self, decoder: Decoder, *, workers: int, pin_memory: bool) -> None:
        self._pictures, self._workers = _Pictures(decoder), workers
        self._feed = _Feed()
        self._loader: DataLoader[Decoded] | None = None
        self._helpers: list[BaseProcess] = []
        if workers:
            self._loader = DataLoader(
                self._pictures,
                batch_sampler=self._feed,
                collate_fn=_collate,
                num_workers=workers,
                persistent_workers=True,
                prefetch_factor=PREFETCH,
                pin_memory=pin_memory,
                worker_init_fn=_init_worker,
            )

    @property
    def ahead(self) -> int:
        return self._workers * PREFETCH

    @property
    def decoded(self) -> int:
        """Number of images decoded so far, in this process and in the workers."""
        return int(self._pictures.count.value)

    def start(self) -> None:
        """Fork the workers.

        Raises:
            BadInput: this machine has no shared memory.
        """
        if self._loader is not None and not self._helpers:
            if reason := no_shared_memory():
                cure = "mount it writable, or set compute.num_workers: 0"
                raise BadInput(
                    f"compute.num_workers {self._workers}: processes that decode images share memory in /dev/shm ({reason}): {cure}"
                )
            before = multiprocessing.active_children()
            iter(self._loader)
            self._helpers = [child for child in multiprocessing.active_children() if child not in before]

    def run(self, batches: Iterable[list[Picture]], *, alone: bool) -> Iterator[Load]:
        """Decode batches; in this process if `alone`.

        Raises:
            Fatal: a worker died; the image that caused it is unknown.
        """
        if self._loader is None or alone:
            yield from (_collate([self._pictures[picture] for picture in batch]) for batch in batches)
            return
        self.start()
        self._feed.batches = batches
        try:
            yield from self._loader
        except RuntimeError as error:
            if all(helper.is_alive() for helper in self._helpers):
                raise
            raise Fatal(f"a process that decodes images died: {error}") from error

    def close(self) -> None:
        """Stop the workers."""
        self._loader, self._helpers = None, []
