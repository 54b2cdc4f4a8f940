"""Decoding beside the model: helper processes of torch's DataLoader, or none."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tasks.adapters.processes.process_guard import die_with_parent
from tasks.domain.errors import BadInput, Transient
from tasks.worker.encoders.image_decoder import Decoded, Decoder, Picture
from tasks.worker.encoding_errors import Fatal, first_line

PREFETCH = 2  # batches for each helper

Load = tuple[torch.Tensor, list[str | Transient | None]]  # the good pictures stacked; for each picture None or its error


class _Pictures(Dataset[Decoded]):
    """A data set that is asked for a picture by the picture itself: helpers live on from piece to piece."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        # Shared with the helpers that are forked, without a file in /dev/shm; two that count at once may count one, and it has grown.
        self.count = ctypes.c_uint64.from_buffer(mmap.mmap(-1, ctypes.sizeof(ctypes.c_uint64)))

    def __getitem__(self, index: Any) -> Decoded:
        try:
            return self._decoder(index)
        finally:
            self.count.value += 1


class _Feed:
    """The batches of the present piece, as DataLoader's sampler."""

    def __init__(self) -> None:
        self.batches: Iterable[list[Picture]] = ()

    def __iter__(self) -> Iterator[list[Picture]]:
        return iter(self.batches)


def _together(decoded: list[Decoded]) -> Load:
    """One tensor for a batch: each tensor that crosses a process border costs a file descriptor."""
    tensors = [d for d in decoded if isinstance(d, torch.Tensor)]
    stacked = torch.stack(tensors) if tensors else torch.empty(0)
    return stacked, [None if isinstance(d, torch.Tensor) else d for d in decoded]


def _settle_in(_worker: int) -> None:
    die_with_parent()


def no_shared_memory() -> str:
    """Why processes cannot share tensors here; "": they can."""
    try:
        multiprocessing.Semaphore()
        torch.empty(1).share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return first_line(error)
    return ""


class Decoding:
    """Decodes batches in order, `ahead` of them at a time beside the one that is taken."""

    def __init__(self, decoder: Decoder, *, workers: int, pin_memory: bool) -> None:
        self._pictures, self._workers = _Pictures(decoder), workers
        self._feed = _Feed()
        self._loader: DataLoader[Decoded] | None = None
        self._helpers: list[BaseProcess] = []
        if workers:
            self._loader = DataLoader(
                self._pictures,
                batch_sampler=self._feed,
                collate_fn=_together,
                num_workers=workers,
                persistent_workers=True,
                prefetch_factor=PREFETCH,
                pin_memory=pin_memory,
                worker_init_fn=_settle_in,
            )

    @property
    def ahead(self) -> int:
        return self._workers * PREFETCH

    @property
    def decoded(self) -> int:
        """Pictures so far, here and in the helpers."""
        return int(self._pictures.count.value)

    def start(self) -> None:
        """Fork the helpers.

        Raises:
            BadInput: this machine has no memory that processes can share.
        """
        if self._loader is not None and not self._helpers:
            if why := no_shared_memory():
                cure = "mount it writable, or set compute.num_workers: 0"
                raise BadInput(
                    f"compute.num_workers {self._workers}: processes that decode images share memory in /dev/shm ({why}): {cure}"
                )
            before = multiprocessing.active_children()
            iter(self._loader)
            self._helpers = [child for child in multiprocessing.active_children() if child not in before]

    def run(self, batches: Iterable[list[Picture]], *, alone: bool) -> Iterator[Load]:
        """Decode batches; `alone` in this process.

        Raises:
            Fatal: a helper died, and it is not known over which picture.
        """
        if self._loader is None or alone:
            yield from (_together([self._pictures[picture] for picture in batch]) for batch in batches)
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
        """End the helpers."""
        self._loader, self._helpers = None, []
