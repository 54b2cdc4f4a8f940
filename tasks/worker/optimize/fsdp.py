"""Shards a transformer's weights among the ranks with torch's FSDP, for models that are larger than a rank's memory.

Each rank holds a shard of every tensor. A layer's shards are gathered before it runs and released afterwards, so a rank holds its
shards and one layer. Weights are mapped from their files without a copy and sharded layer by layer: no rank ever holds all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from tasks.adapters.processes.freed_memory import return_large_blocks
from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.worker.encoding_errors import Fatal, first_line
from tasks.worker.optimize.lockstep import Lockstep
from tasks.worker.system.memory import forget
from tasks.worker.system.sharing_group import SharingGroup

LARGE_TABLE = (
    1 << 20
)  # elements of an embedding that is a unit of its own: as part of the root it would stay gathered during the whole step


class ShardedNetwork(nn.Module):
    """Replaces a model's transformer and computes with the shards of all ranks.

    The transformer is not a submodule: moving the model would touch weights that another thread is gathering.
    """

    def __init__(self, network: PreTrainedModel, group: SharingGroup, device: str) -> None:
        super().__init__()
        sharded_steps = ShardedNetworkSteps(network, device)
        self.__dict__.update(network=network, sharded_steps=sharded_steps, steps=Lockstep(sharded_steps, group.exchange), began=False)
        self.register_buffer("_place", torch.empty(0, device=device), persistent=False)  # tells the library the device

    def forward(self, **inputs: Any) -> Any:
        if self.began:
            return self.steps.compute(inputs)
        outputs = self.sharded_steps.try_out(inputs)
        self.steps.start()
        self.__dict__["began"] = True
        return outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["network"], name)


class ShardedNetworkSteps:
    """The `Steps` of one sharded network."""

    def __init__(self, network: PreTrainedModel, device: str) -> None:
        self._network, self._device = network, device
        self._entered: list[FSDPModule] = []  # units gathered in this step, in order
        self._all: list[FSDPModule] = []  # units gathered in a complete step, in order
        self._dummy: dict[str, Any] = {}
        for unit in network.modules():
            if isinstance(unit, FSDPModule):
                unit.register_forward_pre_hook(self._record)

    def _record(self, unit: nn.Module, _inputs: object) -> None:
        self._entered.append(unit)  # type: ignore[arg-type]

    def try_out(self, inputs: dict[str, Any]) -> Any:
        """Run the first step and record the dummy row and the order of layers. Every rank runs it with its own row."""
        outputs = self._run(inputs)
        self._dummy, self._all = inputs, list(self._entered)
        return outputs

    def compute(self, inputs: dict[str, Any]) -> Any:
        """See `Steps`."""
        try:
            return self._run(inputs)
        except Exception:
            self._finish()
            raise

    def join(self) -> None:
        """See `Steps`."""
        self._run(self._dummy)

    def _run(self, inputs: dict[str, Any]) -> Any:
        self._entered = []
        if self._device.startswith("cuda"):
            torch.cuda.set_device(self._device)  # the current device is per thread
        with torch.inference_mode(mode=False), torch.no_grad():  # buffers made in one mode cannot be used in the other
            outputs = self._network(**inputs)
        self._root.reset_iter_state()  # FSDP records each step for a backward pass, which never comes here
        return outputs

    def _finish(self) -> None:
        """Serve the weights of the layers that a failed batch did not reach to the other ranks."""
        try:
            self._root.reset_iter_state()
            for unit in self._all[len(self._entered) :]:
                unit.unshard()
                unit.reshard()
        except Exception as error:
            raise Fatal(f"the ranks that share the model's weights are out of step: {first_line(error)}") from error

    @property
    def _root(self) -> FSDPModule:
        return self._network  # type: ignore[return-value]


def shard_weights(model: SentenceTransformer, group: SharingGroup, *, precision: Precision, device: str) -> None:
    """Shard a model's transformer in place and replace it by a `ShardedNetwork`.

    Every rank of the group calls this with the same model and then embeds one text. After that each rank may embed at any time.

    Args:
        model: as loaded, on the CPU.
        group: the ranks that share the model.
        precision: the transformer's compute precision.
        device: the device that the model computes on.

    Raises:
        BadInput: the model has no transformer, several, or one that keeps some weights in another precision.
    """
    dtype: torch.dtype = getattr(torch, precision)
    transformers = list(_transformers_in(model))
    if len(transformers) != 1:
        raise BadInput(
            f"compute.model_parallel fsdp shards the weights of one transformer, and the model has {len(transformers)}: set it to off"
        )
    holder, name, network = transformers[0]
    if precision in _unsupported_precisions(network):
        raise BadInput(
            f"compute.model_parallel fsdp: some weights of this model must stay in float32, not {precision}: "
            "set encoder.precision to float32"
        )
    return_large_blocks()
    for unit in [*_units(network), network]:
        _shard(unit, group, dtype)
    shared = ShardedNetwork(network, group, device)
    setattr(holder, name, shared)
    group.serve_weights = shared.steps.leave
    model.to(device=device, dtype=dtype)  # the modules behind the transformer


def _shard(unit: nn.Module, group: SharingGroup, dtype: torch.dtype) -> None:
    """Keep this rank's shard of a unit's weights; units within it are already sharded."""
    own = [tensor for tensor in unit.parameters() if not isinstance(tensor, DTensor)]
    whole = [tensor.data for tensor in own]
    for tensor in own:
        tensor.requires_grad_(False)
        tensor.data = tensor.data.to(dtype).contiguous()
    fully_shard(unit, mesh=group.mesh, reshard_after_forward=True)
    for weights in whole:
        if weights.is_contiguous() and weights.device.type == "cpu":
            forget(weights.data_ptr(), weights.nbytes)


def _unsupported_precisions(network: PreTrainedModel) -> set[str]:
    """Return the precisions in which the library would keep some of a model's weights in float32."""
    half, both = (getattr(network, name, None) for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"))
    return {"float16", "bfloat16"} if both else {"float16"} if half else set()


def _transformers_in(model: nn.Module) -> Iterator[tuple[nn.Module, str, PreTrainedModel]]:
    """Yield each transformer with its parent module and attribute name, as (parent, name, transformer)."""
    for holder in model.modules():
        if not isinstance(holder, PreTrainedModel):
            yield from ((holder, name, part) for name, part in holder.named_children() if isinstance(part, PreTrainedModel))


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the units that are gathered separately: the layers, and large embeddings outside of them."""
    for part in module.children():
        if isinstance(part, nn.ModuleList):
            yield from part
        elif isinstance(part, nn.Embedding) and part.weight.numel() >= LARGE_TABLE:
            yield part
        else:
            yield from _units(part)
