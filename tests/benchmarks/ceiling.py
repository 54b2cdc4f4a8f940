"""How near encoding comes to the processor's own limit, and what the rest of the time goes to. One process, one thread.

The ceiling: the matrix products of the model and nothing else, at the shapes of the very batches that are encoded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import compare, ratio
from tests.benchmarks.kitestring import own_folder
from tests.benchmarks.rows import write_passages

ROWS = 256
CEILING, PEAK = "matrix products alone", "one large product's rate"
LARGE = 2048
TUNED_BATCH = 16
KINDS = {  # of an operation, by what its name holds; the first that fits
    "matrix products": ("linear", "addmm", "matmul", "aten::mm", "bmm", "mkldnn"),
    "attention": ("scaled_dot_product", "softmax", "flash_attention"),
    "activation": ("gelu", "relu", "silu", "tanh"),
    "normalising": ("layer_norm", "native_layer_norm", "rms_norm"),
    "embedding": ("embedding", "index_select", "gather"),
    "copies and shapes": ("copy_", "to", "cat", "contiguous", "clone", "fill_", "empty", "expand", "_to_copy"),
}
NODES = {  # of OpenVINO's graph
    "FullyConnected": "matrix products and activation",
    "Subgraph": "attention",
    **dict.fromkeys(("MVN", "Add", "MulAdd"), "normalising and sums"),
    **dict.fromkeys(("Transpose", "Reorder", "Convert", "Reshape"), "copies and shapes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a transformer its matrix products depend on."""

    layers: int
    hidden: int
    between: int
    heads: int


def ceiling(sizes: Sizes) -> Outcome:
    """Rows/s of the products, of the encoder with and without OpenVINO over the same batches, and of the library's `encode`, in turn."""
    from importlib.util import find_spec  # noqa: PLC0415

    import torch  # noqa: PLC0415 - other benchmarks need none

    from tasks.worker.optimize.precision import native_bfloat16  # noqa: PLC0415

    torch.set_num_threads(1)
    precision: Any = "bfloat16" if native_bfloat16("cpu") else "float32"
    texts = _texts(sizes.rows_or(ROWS, quick=24))
    encoder = _encoder(precision, "torch")
    batches, shape = _batches(encoder, texts), _shape()
    flops = sum(operations(shape, len(b), size) for b, size in batches)
    contenders: dict[str, Callable[[], Mapping[str, float]]] = {
        PEAK: lambda: _peak(len(texts), flops, precision),
        CEILING: partial(_rate, len(texts), products(shape, [(len(b), size) for b, size in batches], precision)),
        "stock encode": partial(_rate, len(texts), _library(texts, "float32", 32)),
        f"stock encode, batch {TUNED_BATCH}, {precision}": partial(_rate, len(texts), _library(texts, precision, TUNED_BATCH)),
        "Kitestring, torch": lambda: _rate(len(texts), lambda: [encoder.encode(b) for b, _ in batches]),
    }
    with_openvino = find_spec("openvino") is not None
    if with_openvino:
        other = _encoder(precision, "openvino")
        contenders["Kitestring, openvino"] = lambda: _rate(len(texts), lambda: [other.encode(b) for b, _ in batches])
    for contender in contenders.values():
        contender()
    results = compare(contenders, sizes.rounds)
    said = [
        f"{name} reaches {ratio(results, name, CEILING, 'rows/CPU s'):.0%} of its matrix products alone, as torch computes them, and"
        f" {ratio(results, name, PEAK, 'rows/CPU s'):.0%} of what the processor does in one large product (by CPU seconds)"
        for name in results
        if name not in (CEILING, PEAK)
    ]
    said.append("torch's time goes to: " + profile(lambda: [encoder.encode(b) for b, _ in batches]))
    if with_openvino:
        said.append("OpenVINO's time goes to: " + openvinos_profile(precision, [contents for contents, _ in batches]))
    return Outcome(
        title=f"Share of the ceiling, all-MiniLM-L6-v2, {precision}, one thread",
        results=results,
        conclusions=said,
        drawn="rows/s",
    )


def operations(shape: Shape, rows: int, tokens: int) -> float:
    """Floating-point operations of the matrix products for a batch."""
    dense = 2 * shape.hidden * (4 * shape.hidden + 2 * shape.between)
    return float(shape.layers * rows * tokens * (dense + 4 * tokens * shape.hidden))


def _peak(rows: int, flops: float, precision: str) -> dict[str, float]:
    """Rows/s if every operation were as fast as those of one large product."""
    import torch  # noqa: PLC0415

    a = torch.randn(LARGE, LARGE, dtype=getattr(torch, precision))
    began, cpu = time.perf_counter(), time.process_time()
    torch.mm(a, a)
    share = flops / (2 * LARGE**3)
    return {"rows/s": rows / (time.perf_counter() - began) / share, "rows/CPU s": rows / (time.process_time() - cpu) / share}


def products(shape: Shape, batches: list[tuple[int, int]], precision: str) -> Callable[[], None]:
    """Does every matrix product of a transformer for batches of (rows, tokens); what is multiplied is there already."""
    import torch  # noqa: PLC0415

    from tasks.worker.optimize.onednn_weights import Packed  # noqa: PLC0415 - torch comes with it

    dtype = getattr(torch, precision)
    sizes = ((shape.hidden, shape.hidden), (shape.hidden, shape.between), (shape.between, shape.hidden))
    made: dict[tuple[int, int], torch.nn.Module] = {(into, out): torch.nn.Linear(into, out, dtype=dtype) for into, out in sizes}
    if precision == "bfloat16":
        made = {size: Packed(layer) for size, layer in made.items()}
    given = torch.randn(max(rows * tokens * max(shape.between, shape.heads * tokens) for rows, tokens in batches)).to(dtype)

    def multiply() -> None:
        for rows, tokens in batches:
            flat = _shaped(given, rows * tokens, shape.hidden)
            wide = _shaped(given, rows * tokens, shape.between)
            heads = _shaped(given, rows * shape.heads, tokens, shape.hidden // shape.heads)
            scores = _shaped(given, rows * shape.heads, tokens, tokens)
            for _ in range(shape.layers):
                for _ in range(4):  # query, key, value, output
                    made[shape.hidden, shape.hidden](flat)
                torch.bmm(heads, heads.transpose(1, 2))
                torch.bmm(scores, heads)
                made[shape.hidden, shape.between](flat)
                made[shape.between, shape.hidden](wide)

    return torch.inference_mode()(multiply)


def _shaped(numbers: Any, *shape: int) -> Any:
    return numbers[: math.prod(shape)].view(shape)


def profile(work: Callable[[], object]) -> str:
    """Shares of the time by kind of operation; what no operation of torch accounts for is Python, tokenising and waiting."""
    from torch.profiler import ProfilerActivity  # noqa: PLC0415
    from torch.profiler import profile as profiler  # noqa: PLC0415

    with profiler(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        work()
        whole = (time.perf_counter() - began) * 1e6
    spent: dict[str, float] = {}
    for event in found.key_averages():
        kind = kind_of(event.key)
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total
    return shares(spent, whole)


def openvinos_profile(precision: Any, batches: list[list[str]]) -> str:
    """The same, by OpenVINO's own counters; the first pass, in which it meets new shapes, is not counted."""
    from openvino import Core  # noqa: PLC0415

    plain = Core.compile_model
    Core.compile_model = lambda core, model, device, settings: plain(core, model, device, {**settings, "PERF_COUNT": True})
    try:
        encoder = _encoder(precision, "openvino")
    finally:
        Core.compile_model = plain
    request = encoder._model[0].model._request
    for contents in batches:
        encoder.encode(contents)
    spent: dict[str, float] = {}
    whole = 0.0
    for contents in batches:
        began = time.perf_counter()
        encoder.encode(contents)
        whole += time.perf_counter() - began
        for node in request.profiling_info:
            if node.status.name == "EXECUTED":
                kind = NODES.get(node.node_type, "other operations")
                spent[kind] = spent.get(kind, 0.0) + node.real_time.total_seconds()
    return shares(spent, whole)


def shares(spent: Mapping[str, float], whole: float) -> str:
    """Of the whole, the largest first; what is not spent on any of them is Python's."""
    told = {**spent, "Python, tokenising": max(0.0, whole - sum(spent.values()))}
    return ", ".join(
        f"{kind} {took / whole:.0%}" for kind, took in sorted(told.items(), key=lambda item: -item[1]) if took / whole >= 0.005
    )


def kind_of(operation: str) -> str:
    """The kind of an operation of torch."""
    name = operation.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other operations")


def _rate(rows: int, work: Callable[[], object]) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return {"rows/s": rows / (time.perf_counter() - began), "rows/CPU s": rows / (time.process_time() - cpu)}


def _texts(count: int) -> list[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with own_folder() as folder:
        return list(pq.read_table(write_passages(folder / "rows.parquet", count))["text"].to_pylist())


def _library(texts: list[str], precision: str, batch: int) -> Callable[[], object]:
    """sentence-transformers' own `encode`."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = SentenceTransformer(str(minilm()), device="cpu", model_kwargs={"dtype": getattr(torch, precision)})
    return partial(model.encode, texts, batch_size=batch, show_progress_bar=False)


def _encoder(precision: Any, backend: Any) -> Any:
    from tasks.domain.job.encoder import SentenceTransformersEncoder  # noqa: PLC0415
    from tasks.worker.encoders.registry import open_encoder  # noqa: PLC0415

    settings = SentenceTransformersEncoder(model=str(minilm()))
    return open_encoder(settings, model_path=str(minilm()), precision=precision, backend=backend)


def _batches(encoder: Any, texts: list[str]) -> list[tuple[list[str], int]]:
    """Planned batches and the length of the longest row of each."""
    import pyarrow as pa  # noqa: PLC0415

    work = encoder.prepare(pa.table({"text": texts}))
    plan = work.plan(range(len(texts)))
    return [(batch.contents, max(work.sizes[row] for row in batch.rows)) for batch in work.load(plan, alone=True)]


def _shape() -> Shape:
    import json  # noqa: PLC0415

    config = json.loads((minilm() / "config.json").read_text())
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        between=config["intermediate_size"],
        heads=config["num_attention_heads"],
    )
