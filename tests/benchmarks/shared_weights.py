"""What `compute.model_parallel: fsdp` saves: the memory of a rank that holds a share of a large model, beside one that holds all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import job_of, own_folder, run
from tests.benchmarks.rows import write_short_rows
from tests.builders.models import make_tiny_model

LAYERS, WIDTH = 40, 1024  # 2 GB in float32
EVERY = 0.1
ROWS = 40


def shared_weights(sizes: Sizes) -> Outcome:
    """MiB of one rank that holds the model, and of each of two that share it."""
    layers = 4 if sizes.quick else LAYERS
    with own_folder() as folder:
        rows, model = write_short_rows(folder / "rows.parquet", sizes.rows_or(ROWS, quick=50)), make_deep_model(folder / "deep", layers)
        contenders = {
            "one process, the whole model": partial(peaks, rows, model, processes=1, model_parallel="off"),
            "two processes share it": partial(peaks, rows, model, processes=2, model_parallel="fsdp"),
        }
        results = compare(contenders, sizes.rounds)
        weights = (model / "model.safetensors").stat().st_size / (1 << 20)
    whole, shared = (results[name]["largest rank"].median for name in contenders)
    conclusion = f"a rank of two takes {shared / whole:.2f} of what one alone takes; the weights are {weights:,.0f} MiB"
    return Outcome(title="Peak memory of a rank (PSS, MiB)", results=results, conclusions=[conclusion], drawn="largest rank")


def peaks(rows: Path, model: Path, *, processes: int, model_parallel: str) -> Mapping[str, float]:
    with own_folder() as here:
        settings = {"compute__processes": processes, "compute__model_parallel": model_parallel, "compute__threads": 1}
        job = job_of(here, rows, model, encoder__precision="float32", report__examples=0, **settings)
        ran = run(here, job, every=EVERY)
    found = ran.watched.peaks
    ranks = [mebibytes for kind, mebibytes in found.by_kind.items() if kind.startswith("rank ")]
    return {"largest rank": max(ranks), "all at once": found.whole, "seconds": ran.watched.seconds}


def make_deep_model(folder: Path, layers: int) -> Path:
    """The tiny model with many wide layers of random weights."""
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import BertConfig, BertModel  # noqa: PLC0415 - takes seconds

    make_tiny_model(folder)
    told = json.loads((folder / "config.json").read_text())
    config = BertConfig(
        **{**told, "num_hidden_layers": layers, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 16}
    )
    torch.manual_seed(7)
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}))
    return folder
