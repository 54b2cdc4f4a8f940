"""The ranks' encoding without anything around it, beside `SentenceTransformer.encode`, in one launch of torchrun.

    python -m torch.distributed.run --standalone --nproc-per-node N -m tests.benchmarks.ranks_alone ROWS MODEL OUT ROUNDS [ONLY ...]

All contenders, or stock and those whose names hold one of the words that are given, take turns in every round; they wait for
each other before and after each. Stock `encode` runs on rank 0 with all cores while the others wait. Rank 0 writes seconds by contender and, but for stock, cosines to stock's vectors.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import distributed

from tasks.adapters.processes.hardware import cores
from tasks.domain.encoder_identity import Precision
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize.precision import native_bfloat16
from tasks.worker.system.placement import RankPlacement
from tests.benchmarks.bench import Sizes
from tests.benchmarks.figures import turns
from tests.benchmarks.vectors import STOCK, cosines

TOKENS = (1000, 500, 2000)
TUNED_BATCHES = (8, 16, 32)
PIECE = 512  # rows, as the first pieces of a run
Contender = Callable[[], np.ndarray]


def main() -> None:
    rows, model, out, rounds, *only = sys.argv[1:]
    distributed.init_process_group("gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    texts: list[str] = pq.read_table(rows, columns=["text"])["text"].to_pylist()
    contenders = build(model, texts, Sizes(only=tuple(only)), rank=rank, ranks=ranks)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}  # of all ranks
    vectors: dict[str, np.ndarray] = {}
    for contender in contenders.values():
        contender.warm()
    for name in turns(list(contenders), int(rounds)):
        distributed.barrier()
        began, used = time.perf_counter(), time.process_time()
        vectors[name] = contenders[name]()
        spent = torch.tensor([time.process_time() - used])
        distributed.all_reduce(spent)
        seconds[name].append(time.perf_counter() - began)
        cpu[name].append(float(spent))
    told = gather_cosines(vectors, rank=rank, ranks=ranks)
    if rank == 0:
        Path(out).write_text(json.dumps({"rows": len(texts), "seconds": seconds, "cpu": cpu, "cosines": told}))
    distributed.destroy_process_group()


def build(model: str, texts: list[str], sizes: Sizes, *, rank: int, ranks: int) -> dict[str, Any]:
    """Every contender, by name: its share of the rows to vectors."""
    threads = max(1, cores() // ranks)
    place = RankPlacement(rank=rank, ranks=ranks, threads=threads)
    made: dict[str, Any] = {STOCK: Stock(model, texts, rank=rank, threads=threads)}
    precisions: tuple[Precision, ...] = (
        ("float32", "bfloat16") if native_bfloat16("cpu") and "ONEDNN_MAX_CPU_ISA" not in os.environ else ("float32",)
    )
    for batch in TUNED_BATCHES:
        name = f"tuned: batch {batch}, {precisions[-1]}"
        if sizes.wants(name):
            made[name] = Stock(model, texts, rank=rank, threads=threads, batch=batch, dtype=precisions[-1])
    ways = [(precision, "torch", tokens) for precision in precisions for tokens in TOKENS]
    ways += [(precision, "openvino", tokens) for precision in precisions for tokens in TOKENS[:2] if find_spec("openvino")]
    for precision, backend, tokens in ways:
        name = f"{ranks} x {threads} threads, {precision}, {tokens} tokens" + (", openvino" if backend == "openvino" else "")
        if sizes.wants(name):
            compute = Compute(device="cpu", batch_tokens=tokens)
            settings = SentenceTransformersEncoder(model=model)
            encoder = open_encoder(settings, model_path=model, precision=precision, compute=compute, place=place, backend=backend)
            made[name] = Share(encoder, texts[rank::ranks], threads=threads)
    return made


class Stock:
    """`SentenceTransformer.encode` with its defaults or tuned, on all cores; only rank 0 has something to do."""

    def __init__(self, model: str, texts: list[str], *, rank: int, threads: int, batch: int = 32, dtype: Precision = "float32") -> None:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        self._texts, self._threads, self._is_mine, self._batch = texts, threads, rank == 0, batch
        self._model = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})

    def warm(self) -> None:
        self._model.encode(self._texts[:32])

    def __call__(self) -> np.ndarray:
        if not self._is_mine:
            return np.zeros((0, 0), np.float32)
        torch.set_num_threads(cores())
        try:
            return np.asarray(self._model.encode(self._texts, batch_size=self._batch, show_progress_bar=False))
        finally:
            torch.set_num_threads(self._threads)


class Share:
    """What a rank does with its rows: measure, plan, encode, scale, put in order."""

    def __init__(self, encoder: LoadedEncoder, texts: list[str], *, threads: int) -> None:
        self._encoder, self._texts, self._threads = encoder, texts, threads

    def warm(self) -> None:
        self._encoder.encode(self._texts[:8])

    def __call__(self) -> np.ndarray:
        torch.set_num_threads(self._threads)
        pieces = [self._piece(self._texts[at : at + PIECE]) for at in range(0, len(self._texts), PIECE)]
        return np.concatenate(pieces) if pieces else np.zeros((0, 0), np.float32)

    def _piece(self, texts: list[str]) -> np.ndarray:
        work = self._encoder.prepare(pa.table({"text": pa.array(texts, pa.string())}))
        vectors: np.ndarray | None = None
        for batch in work.load(work.plan(range(len(texts))), alone=False):
            found = self._encoder.encode(batch.contents)
            vectors = np.zeros((len(texts), found.shape[1]), np.float32) if vectors is None else vectors
            vectors[batch.rows] = found
        assert vectors is not None
        return vectors


def gather_cosines(vectors: dict[str, np.ndarray], *, rank: int, ranks: int) -> dict[str, tuple[float, float]]:
    """Lowest and mean cosine to stock's, by contender; on rank 0."""
    told: dict[str, tuple[float, float]] = {}
    for name, mine in vectors.items():
        if name == STOCK:
            continue
        if name.startswith("tuned"):
            if rank == 0:
                told[name] = cosines(vectors[STOCK], mine)
            continue
        shares: list[Any] = [None] * ranks
        distributed.all_gather_object(shares, mine)
        if rank == 0:
            whole = np.zeros_like(vectors[STOCK])
            for other, share in enumerate(shares):
                whole[other::ranks] = share
            told[name] = cosines(vectors[STOCK], whole)
    return told


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
