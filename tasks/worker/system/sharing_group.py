"""The ranks that hold one model together, for as long as they work.

Two groups beside the launch's own, which the main threads use: one for weights, one in which ranks tell each other what they will do next.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tasks.domain.errors import BadInput

Leave = Callable[[Callable[[], bool]], None]


class AnotherFailed(Exception):
    """Another rank could not load the encoder, and says so itself."""


class SharingGroup:
    """All ranks of a launch. Everything but `leave` is to be called by every rank, in the same order.

    Args:
        device: of this rank.
        seconds: after which waiting for another rank is an error.

    Raises:
        BadInput: there are fewer cards than ranks.
    """

    def __init__(self, device: str, seconds: float) -> None:
        self._torch, self._distributed = import_module("torch"), import_module("torch.distributed")
        kind, limit = device.partition(":")[0], dt.timedelta(seconds=seconds)
        self.ranks: int = self._distributed.get_world_size()
        if kind == "cuda" and self.ranks > self._torch.cuda.device_count():
            raise BadInput("compute.model_parallel fsdp needs a card for each process: set compute.processes to auto")
        self._steps = self._distributed.new_group(backend="gloo", timeout=limit)
        weights = self._distributed.new_group(backend="nccl" if kind == "cuda" else "gloo", timeout=limit)
        self.mesh: Any = import_module("torch.distributed.device_mesh").DeviceMesh.from_group(weights, kind)
        self.lending: Leave | None = None  # set by who computes with the group

    def exchange(self, number: int) -> list[int]:
        """Each rank's number, in rank order.

        Raises:
            RuntimeError: a rank has ended, or does not answer.
        """
        mine = self._torch.tensor([number])
        all_of_them = [self._torch.zeros_like(mine) for _ in range(self.ranks)]
        self._distributed.all_gather(all_of_them, mine, group=self._steps)
        return [int(n) for n in all_of_them]

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """What no rank has done unless all have: a rank that waited for the weights of one that failed would wait without end.

        Raises:
            AnotherFailed: it went well here, and not elsewhere.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, when all know
            failed = error
        failures = sum(self.exchange(0 if failed is None else 1))
        if failed is not None:
            raise failed
        if failures:
            raise AnotherFailed

    def leave(self, allowed: Callable[[], bool]) -> None:
        """Lend the other ranks this one's weights until none has work; then leave all groups of this process.

        Args:
            allowed: whether this rank may still wait.

        Raises:
            Fatal: another rank has ended, or this one has to.
        """
        if self.lending is not None:
            self.lending(allowed)
        self._distributed.destroy_process_group()
