"""Two ranks that share a model's weights, run by torchrun: `python -m torch.distributed.run ... -m tests.builders.worker.shared_ranks MODEL FOLDER`.

Each writes what it found to FOLDER/RANK.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.startup.process_group import joined_group
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import SharingGroup
from tests.builders.kitestring import text_of

TEXTS = [text_of(row) for row in range(40)]
FAILING = TEXTS[:3]


def main() -> None:
    path, folder = sys.argv[1], Path(sys.argv[2])
    with joined_group(2, 120, stays=True) as launch:
        rank, group = torch.distributed.get_rank(), SharingGroup("cpu", 120)
        settings = SentenceTransformersEncoder(model=path, precision="float32")
        place = RankPlacement(rank=rank, ranks=2, sharing=group)
        encoder: Any = open_encoder(settings, model_path=path, precision="float32", place=place)
        whole = SentenceTransformer(path, device="cpu", local_files_only=True).encode(TEXTS, normalize_embeddings=True)

        def lowest() -> float:
            return float((encoder.encode(TEXTS) * whole).sum(axis=1).min())

        network = encoder._model[0].auto_model
        launch.gather(0)  # no rank steps while weights are counted
        found: dict[str, Any] = {"held": sum(part.to_local().numel() for part in network.network.parameters())}
        found["all"] = sum(part.numel() for part in network.network.parameters())
        launch.gather(0)
        found["alone"] = lowest() if rank == 0 else 1.0  # the other has no work
        launch.gather(0)
        found["failed"], found["layers"] = failures_in(network.network, encoder) if rank == 0 else (0, 0)
        found["together"] = min(lowest() for _ in range(3))
        group.leave(lambda: True)
    (folder / f"{rank}.json").write_text(json.dumps(found))


def failures_in(network: torch.nn.Module, encoder: Any) -> tuple[int, int]:
    """Batches that fail at each layer in turn, while the other rank computes, and how many layers there are."""
    failed = 0
    layers = next(part for part in network.modules() if isinstance(part, torch.nn.ModuleList))
    for layer in layers:
        attention = next(part for name, part in layer.named_children() if "att" in name.lower())
        hook = attention.register_forward_hook(fail)
        try:
            encoder.encode(FAILING)
        except ValueError:
            failed += 1
        hook.remove()
    return failed, len(layers)


def fail(_layer: object, _inputs: object, outputs: Any) -> None:
    """Not of the dummy row, which this rank goes on computing for the other."""
    if len(outputs[0]) == len(FAILING):
        raise ValueError("a row that this layer cannot stand")


if __name__ == "__main__":
    main()
