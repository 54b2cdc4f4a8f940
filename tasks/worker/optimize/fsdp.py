"""A transformer whose weights are shared out among the ranks: torch's FSDP, for models that are larger than a rank's memory.

Each rank holds a part of every tensor. A layer's parts are gathered when its turn comes, and let go of after it, so that a rank holds
its share and one layer. Weights are read as the files have them, mapped into memory and not copied, and cut layer by layer: no rank
ever holds all of them.
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

LARGE_TABLE = 1 << 20  # numbers in an embedding that is gathered by itself: within the root's it would be held all along


class SharedNetwork(nn.Module):
    """Stands in a model where its transformer was, and computes with all ranks' shares of it.

    The transformer is no submodule: whoever moves the model would touch weights that another thread is gathering.
    """

    def __init__(self, network: PreTrainedModel, group: SharingGroup, device: str) -> None:
        super().__init__()
        shares = Shares(network, device)
        self.__dict__.update(network=network, shares=shares, steps=Lockstep(shares, group.exchange), began=False)
        self.register_buffer("_place", torch.empty(0, device=device), persistent=False)  # by which the library knows the device

    def forward(self, **inputs: Any) -> Any:
        if self.began:
            return self.steps.compute(inputs)
        outputs = self.shares.try_out(inputs)
        self.steps.start()
        self.__dict__["began"] = True
        return outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["network"], name)


class Shares:
    """The steps of `Lockstep`, for one sharded network."""

    def __init__(self, network: PreTrainedModel, device: str) -> None:
        self._network, self._device = network, device
        self._entered: list[FSDPModule] = []  # in this step, in order: whose weights were gathered
        self._all: list[FSDPModule] = []  # likewise, in a whole step
        self._dummy: dict[str, Any] = {}
        for unit in network.modules():
            if isinstance(unit, FSDPModule):
                unit.register_forward_pre_hook(self._note)

    def _note(self, unit: nn.Module, _inputs: object) -> None:
        self._entered.append(unit)  # type: ignore[arg-type]

    def try_out(self, inputs: dict[str, Any]) -> Any:
        """The first step, of which the dummy row and the order of layers are learnt. Every rank takes it with a row of its own."""
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
            torch.cuda.set_device(self._device)  # each thread has a current device
        with torch.inference_mode(mode=False), torch.no_grad():  # buffers of one mode cannot be used in the other
            outputs = self._network(**inputs)
        self._root.reset_iter_state()  # it remembers each step for a backward pass that never comes
        return outputs

    def _finish(self) -> None:
        """Lend the others the weights of the layers that a failed batch did not reach."""
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


def share_weights(model: SentenceTransformer, group: SharingGroup, *, precision: Precision, device: str) -> None:
    """Cut a model's transformer into shares, in place, and put what computes with all of them in its stead.

    Every rank of the group calls this with the same model, and then embeds one text: from the return of that on, each may embed at any time.

    Args:
        model: as it was read, on the CPU.
        group: the ranks.
        precision: what the transformer computes in.
        device: what the model computes on.

    Raises:
        BadInput: it has no transformer, or several, or one that keeps some weights in another precision.
    """
    dtype: torch.dtype = getattr(torch, precision)
    found = list(_holders(model))
    if len(found) != 1:
        raise BadInput(f"compute.model_parallel fsdp shares the weights of one transformer, and the model has {len(found)}: set it to off")
    holder, name, network = found[0]
    if precision in _kept_apart(network):
        raise BadInput(f"compute.model_parallel fsdp: some weights of this model are not for {precision}: set encoder.precision to float32")
    return_large_blocks()
    for unit in [*_units(network), network]:
        _cut(unit, group, dtype)
    shared = SharedNetwork(network, group, device)
    setattr(holder, name, shared)
    group.lending = shared.steps.leave
    model.to(device=device, dtype=dtype)  # the modules behind the transformer


def _cut(unit: nn.Module, group: SharingGroup, dtype: torch.dtype) -> None:
    """Keep this rank's share of a unit's weights; those of units within it are cut already."""
    own = [tensor for tensor in unit.parameters() if not isinstance(tensor, DTensor)]
    whole = [tensor.data for tensor in own]
    for tensor in own:
        tensor.requires_grad_(False)
        tensor.data = tensor.data.to(dtype).contiguous()
    fully_shard(unit, mesh=group.mesh, reshard_after_forward=True)
    for weights in whole:
        if weights.is_contiguous() and weights.device.type == "cpu":
            forget(weights.data_ptr(), weights.nbytes)


def _kept_apart(network: PreTrainedModel) -> set[str]:
    """Precisions in which the library would keep some of a model's weights in float32."""
    half, both = (getattr(network, name, None) for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"))
    return {"float16", "bfloat16"} if both else {"float16"} if half else set()


def _holders(model: nn.Module) -> Iterator[tuple[nn.Module, str, PreTrainedModel]]:
    """Each transformer, and the module and the name that hold it."""
    for holder in model.modules():
        if not isinstance(holder, PreTrainedModel):
            yield from ((holder, name, part) for name, part in holder.named_children() if isinstance(part, PreTrainedModel))


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered by itself: the layers, and large embeddings outside of them."""
    for part in module.children():
        if isinstance(part, nn.ModuleList):
            yield from part
        elif isinstance(part, nn.Embedding) and part.weight.numel() >= LARGE_TABLE:
            yield part
        else:
            yield from _units(part)
