"""The ranks that share one sharded model, for as long as they encode.

Two process groups beside the launch's own, used by the main threads: one for weights, one for agreeing on the next step.
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
    """Another rank could not load the encoder; that rank reports the error."""


class SharingGroup:
    """All ranks of a launch. Every rank must call every method except `leave`, in the same order.

    Args:
        device: this rank's device.
        seconds: time limit for waiting for another rank.

    Raises:
        BadInput: there are fewer GPUs than ranks.
    """

    def __init__(self, device: str, seconds: float) -> None:
        self._torch, self._distributed = import_module("torch"), import_module("torch.distributed")
        kind, limit = device.partition(":")[0], dt.timedelta(seconds=seconds)
        self.ranks: int = self._distributed.get_world_size()
        if kind == "cuda" and self.ranks > self._torch.cuda.device_count():
            raise BadInput("compute.model_parallel fsdp needs a GPU for each process: set compute.processes to auto")
        self._steps = self._distributed.new_group(backend="gloo", timeout=limit)
        weights = self._distributed.new_group(backend="nccl" if kind == "cuda" else "gloo", timeout=limit)
        self.mesh: Any = import_module("torch.distributed.device_mesh").DeviceMesh.from_group(weights, kind)
        self.serve_weights: Leave | None = None  # set by the code that computes with the group

    def exchange(self, number: int) -> list[int]:
        """Return each rank's number, in rank order.

        Raises:
            RuntimeError: a rank has exited or does not answer.
        """
        mine = self._torch.tensor([number])
        all_of_them = [self._torch.zeros_like(mine) for _ in range(self.ranks)]
        self._distributed.all_gather(all_of_them, mine, group=self._steps)
        return [int(n) for n in all_of_them]

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Let the block succeed on all ranks or on none: a rank would wait forever for the weights of a rank that failed.

        Raises:
            AnotherFailed: the block succeeded here and failed on another rank.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, once all ranks know of it
            failed = error
        failures = sum(self.exchange(0 if failed is None else 1))
        if failed is not None:
            raise failed
        if failures:
            raise AnotherFailed

    def leave(self, allowed: Callable[[], bool]) -> None:
        """Serve this rank's weights to the others until no rank has work, then leave all process groups.

        Args:
            allowed: returns whether this rank may still wait.

        Raises:
            Fatal: another rank has exited, or this one must exit.
        """
        if self.serve_weights is not None:
            self.serve_weights(allowed)
        self._distributed.destroy_process_group()
