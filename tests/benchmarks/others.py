"""What careful people and other systems do with the same rows; each is a process of its own.

    python -m tests.benchmarks.others KIND ROWS.parquet MODEL FIGURES.json [--into FILE.db] [--vectors FILE.npy] [--batch N]

Writes the marks that `plain` writes. KIND is one of the names in `ENCODERS`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tasks.adapters.processes.hardware import gpus

BEGAN = psutil.Process().create_time()
BATCHES = (8, 16, 32, 64)
RAY_BATCH = 256  # as Ray's documentation has it
TUNED, POOL, RAY, EMBED_ANYTHING = "tuned", "pool", "ray", "embedanything"
PIPELINE, ACCELERATE, DATA_PARALLEL = "pipeline", "accelerate", "dataparallel"
NEEDS = {RAY: "ray", EMBED_ANYTHING: "embed_anything", ACCELERATE: "accelerate"}  # in the extra `bench`
PROCESSES = 2  # of `accelerate launch`
LIMIT = 256  # tokens that all-MiniLM-L6-v2 reads of a text; the pipeline does not know it
Encode = Callable[[], Any]


def available() -> list[str]:
    """The kinds that are installed here, and for which there is a device."""
    return [kind for kind in ENCODERS if find_spec(NEEDS.get(kind, "json")) and (kind != DATA_PARALLEL or gpus())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*ENCODERS, "best-batch"])
    for name in ("rows", "model", "figures"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--into")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    if asked.kind == "best-batch":
        asked.figures.write_text(json.dumps(best_batch(asked.rows, asked.model)))
        return
    import numpy as np  # noqa: PLC0415 - imports are part of what is measured

    if asked.into:
        import pymilvus  # noqa: F401, PLC0415
    encode = ENCODERS[asked.kind](asked.rows, asked.model, asked.batch)
    marks = {"ready": time.time() - BEGAN, "CPU when ready": _cpu()}
    vectors = np.asarray(encode(), dtype=np.float32)
    marks["encoded"] = time.time() - BEGAN
    if asked.into:
        insert(asked.into, asked.rows, vectors)
        marks["inserted"] = time.time() - BEGAN
    marks["CPU when done"] = _cpu()
    if asked.vectors:
        np.save(asked.vectors, vectors)
    asked.figures.write_text(json.dumps(marks))


def _cpu() -> float:
    """Of this process and those it has started; what has ended counts only where somebody waited for it."""
    me = psutil.Process()
    times = [p.cpu_times() for p in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times) + me.cpu_times().children_user + me.cpu_times().children_system


def texts_of(rows: Path) -> list[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    return pq.read_table(rows, columns=["text"])["text"].to_pylist()


def tuned(rows: Path, model: Path, batch: int) -> Encode:
    """One process, the best batch size, bfloat16 where the processor multiplies it."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    from tasks.worker.optimize.precision import native_bfloat16  # noqa: PLC0415

    dtype = torch.bfloat16 if native_bfloat16("cpu") else torch.float32
    loaded = SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": dtype})
    return lambda: loaded.encode(texts_of(rows), batch_size=batch, show_progress_bar=False)


def best_batch(rows: Path, model: Path, count: int = 128) -> dict[str, float]:
    """Seconds for some rows by batch size, and the best."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        table = pq.read_table(rows)
        few = Path(folder) / "few.parquet"
        pq.write_table(table.take(list(range(0, table.num_rows, max(1, table.num_rows // count)))), few)
        took: dict[int, float] = {}
        for batch in (BATCHES[0], *BATCHES):  # the first is for warmth
            encode, began = tuned(few, model, batch), time.perf_counter()
            encode()
            took[batch] = time.perf_counter() - began
    return {"best": min(took, key=lambda batch: took[batch]), **{str(batch): seconds for batch, seconds in took.items()}}


def pool(rows: Path, model: Path, batch: int) -> Encode:
    """The library's own pool of two processes, a thread each."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    os.environ["OMP_NUM_THREADS"] = "1"  # its processes are started anew and read it
    torch.set_num_threads(1)
    loaded = SentenceTransformer(str(model), device="cpu")
    processes = loaded.start_multi_process_pool(["cpu", "cpu"])

    def encode() -> Any:
        try:
            return loaded.encode(texts_of(rows), pool=processes, batch_size=batch, show_progress_bar=False)
        finally:
            loaded.stop_multi_process_pool(processes)

    return encode


def ray_data(rows: Path, model: Path, _batch: int) -> Encode:
    """`map_batches` with a pool of two actors. Ray starts them at the first batch, so its start-up is within its work."""
    import numpy as np  # noqa: PLC0415
    import ray  # noqa: PLC0415

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Four, of two: its readers need a processor too, and with as many actors as processors the two would wait for each other.
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False, runtime_env={})
    name = str(model)

    class Embedder:
        def __init__(self) -> None:
            import torch  # noqa: PLC0415
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415

            torch.set_num_threads(1)
            self.model = SentenceTransformer(name, device="cpu")

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch["vector"] = self.model.encode(list(batch["text"]), show_progress_bar=False)
            return batch

    def encode() -> Any:
        actors = ray.data.ActorPoolStrategy(size=2)
        found = ray.data.read_parquet(str(rows)).map_batches(Embedder, batch_size=RAY_BATCH, compute=actors, num_cpus=1).take_all()
        by_key = {row["id"]: row["vector"] for row in found}
        return np.stack([by_key[key] for key in keys_of(rows)])

    return encode


def embed_anything(rows: Path, model: Path, batch: int) -> Encode:
    """EmbedAnything (Rust, Candle). It loads from a hub cache only: one is made that holds the local model."""
    home = Path(tempfile.mkdtemp(prefix="bench-hub-"))
    repository = home / "hub" / "models--bench--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    for file in (path for path in model.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    os.environ["HF_HOME"] = str(home)
    import embed_anything as library  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    loaded = library.EmbeddingModel.from_pretrained_hf("bench/model")
    config = library.TextEmbedConfig(batch_size=batch)
    return lambda: np.array([found.embedding for found in library.embed_query(texts_of(rows), loaded, config)])


def pipeline(rows: Path, model: Path, _batch: int) -> Encode:
    """Hugging Face's `pipeline("feature-extraction")`, one text after another as its documentation has it; the mean of a text's tokens, of length 1."""
    import numpy as np  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    extract = transformers.pipeline("feature-extraction", model=str(model), device="cpu")

    def encode() -> Any:
        found = extract(texts_of(rows), return_tensors=True, tokenize_kwargs={"truncation": True, "max_length": LIMIT})
        means = np.stack([tokens[0].mean(0).numpy() for tokens in found])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    return encode


def accelerated(rows: Path, model: Path, batch: int) -> Encode:
    """`accelerate launch` with two processes. They load the model themselves, so their start-up is within their work.

    Without GPUs its launcher would start several processes by MPI alone; told of GPUs it takes torchrun, and the script stays on the CPU.
    """
    import numpy as np  # noqa: PLC0415

    out = Path(tempfile.mkdtemp(prefix="bench-accelerate-")) / "vectors.npy"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(PROCESSES), "--num_machines", "1"]
    launch += ["--num_cpu_threads_per_process", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    told = [str(Path(__file__).with_name("accelerated.py")), str(rows), str(model), str(out), str(batch)]

    def encode() -> Any:
        subprocess.run([*launch, *told], check=True, env={**os.environ, "ACCELERATE_USE_CPU": "true"})
        return np.load(out)

    return encode


def data_parallel(rows: Path, model: Path, batch: int) -> Encode:
    """torch's `DataParallel` around the transformer, on all cards: each batch is cut in as many parts, and the rest is one process."""
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    class Spread(torch.nn.DataParallel):
        @property
        def config(self) -> Any:  # which the library asks for
            return self.module.config

    device = "cuda" if torch.cuda.is_available() else "cpu"  # without a card it calls the model as it is
    loaded = SentenceTransformer(str(model), device=device)
    first: Any = loaded[0]
    first.model = Spread(first.model)
    whole = batch * max(1, torch.cuda.device_count())
    return lambda: loaded.encode(texts_of(rows), batch_size=whole, show_progress_bar=False)


def keys_of(rows: Path) -> list[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    return pq.read_table(rows, columns=["id"])["id"].to_pylist()


def insert(uri: str, rows: Path, vectors: Any, batch: int = 5_000) -> None:
    """Columns are read as such, vectors stay arrays, batches are large."""
    from pymilvus import MilvusClient  # noqa: PLC0415

    keys, texts = keys_of(rows), texts_of(rows)
    client = MilvusClient(uri)
    client.create_collection("bench", dimension=vectors.shape[1], id_type="string", max_length=512)
    for first in range(0, len(keys), batch):
        some = slice(first, first + batch)
        columns = zip(keys[some], vectors[some], texts[some], strict=True)
        client.insert("bench", [{"id": key, "vector": vector, "text": text} for key, vector, text in columns])
    assert client.search("bench", data=[vectors[0].tolist()], limit=1)[0]
    client.close()


ENCODERS: dict[str, Callable[[Path, Path, int], Encode]] = {
    TUNED: tuned,
    POOL: pool,
    PIPELINE: pipeline,
    ACCELERATE: accelerated,
    DATA_PARALLEL: data_parallel,
    RAY: ray_data,
    EMBED_ANYTHING: embed_anything,
}

if __name__ == "__main__":
    main()
