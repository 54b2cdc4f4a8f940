"""The process group that ranks use during start-up: rank 0 decides, and all ranks compare.

gloo, never NCCL: a barrier over NCCL gives every process a context on device 0. Messages are tensors of bytes, since torch's
collectives for objects use pickle. The ranks leave the group before the first piece: afterwards no rank waits for another,
unless they share a model's weights.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


class ProcessGroup:
    """The ranks of one launch."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        if ranks > 1:  # a single rank needs no torch
            self._torch, self._distributed = import_module("torch"), import_module("torch.distributed")

    def broadcast(self, text: str) -> str:
        """Send rank 0's text to every rank; return it."""
        if self._ranks == 1:
            return text
        torch, distributed = self._torch, self._distributed
        length = torch.tensor([len(text.encode())])
        distributed.broadcast(length, src=0)
        message = torch.zeros(int(length), dtype=torch.uint8)
        message[:] = torch.tensor(list(text.encode()), dtype=torch.uint8) if distributed.get_rank() == 0 else 0
        distributed.broadcast(message, src=0)
        return bytes(message.tolist()).decode()

    def gather(self, number: int) -> list[int]:
        """Return each rank's number, in rank order, on every rank."""
        if self._ranks == 1:
            return [number]
        mine = self._torch.tensor([number])
        all_of_them = [self._torch.zeros_like(mine) for _ in range(self._ranks)]
        self._distributed.all_gather(all_of_them, mine)
        return [int(n) for n in all_of_them]


@contextmanager
def joined_group(ranks: int, seconds: float, *, stays: bool = False) -> Iterator[ProcessGroup]:
    """Join the process group for the block. A process that torchrun did not start forms a group of its own.

    Args:
        ranks: number of ranks in the group.
        seconds: time limit for waiting for other ranks: loading a large model from a cold disk takes long.
        stays: keep the group afterwards; `SharingGroup` then leaves it.
    """
    if ranks == 1 or "MASTER_ADDR" not in os.environ:
        yield ProcessGroup(1)
        return
    distributed = import_module("torch.distributed")
    distributed.init_process_group("gloo", timeout=dt.timedelta(seconds=seconds))
    try:
        yield ProcessGroup(ranks)
    finally:
        if not stays:
            distributed.destroy_process_group()
