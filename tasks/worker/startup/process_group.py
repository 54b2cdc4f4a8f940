"""The process group, used only while the ranks start: one of them decides, and all compare.

gloo, never NCCL: a barrier over NCCL gives every process a context on device 0. Messages are tensors of bytes,
since torch's own collectives for objects pickle them. The group is left before the first piece: from then on
no rank waits for another, unless they share a model's weights.
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
        if ranks > 1:  # one alone needs no torch
            self._torch, self._distributed = import_module("torch"), import_module("torch.distributed")

    def tell(self, text: str) -> str:
        """Rank 0's text, on every rank."""
        if self._ranks == 1:
            return text
        torch, distributed = self._torch, self._distributed
        length = torch.tensor([len(text.encode())])
        distributed.broadcast(length, src=0)
        told = torch.zeros(int(length), dtype=torch.uint8)
        told[:] = torch.tensor(list(text.encode()), dtype=torch.uint8) if distributed.get_rank() == 0 else 0
        distributed.broadcast(told, src=0)
        return bytes(told.tolist()).decode()

    def gather(self, number: int) -> list[int]:
        """Each rank's number, in rank order, on every rank."""
        if self._ranks == 1:
            return [number]
        mine = self._torch.tensor([number])
        all_of_them = [self._torch.zeros_like(mine) for _ in range(self._ranks)]
        self._distributed.all_gather(all_of_them, mine)
        return [int(n) for n in all_of_them]


@contextmanager
def gathered(ranks: int, seconds: float, *, stays: bool = False) -> Iterator[ProcessGroup]:
    """Be in the process group for a while; a process that torchrun did not start is a group of its own.

    Args:
        ranks: how many there are.
        seconds: for which one waits for the others: a large model on a cold disk takes long.
        stays: the group is needed afterwards: whoever needs it leaves it (`SharingGroup`).
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
