"""What most people write: `SentenceTransformer.encode` with its defaults, and `MilvusClient.insert` of dicts.

    python -m tests.benchmarks.plain ROWS.parquet MODEL FIGURES.json [--into FILE.db] [--vectors FILE.npy]

Writes seconds since the process was created: `ready` when the model is loaded, `encoded`, and with --into `inserted`,
when a search has found something.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import psutil

BEGAN = psutil.Process().create_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rows", "model", "figures"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--into")
    parser.add_argument("--vectors", type=Path)
    asked = parser.parse_args()

    import numpy as np  # noqa: PLC0415 - imports are part of what is measured
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    if asked.into:
        import pymilvus  # noqa: F401, PLC0415
    model = SentenceTransformer(str(asked.model), device="cpu")
    marks = {"ready": time.time() - BEGAN, "CPU when ready": time.process_time()}
    rows = pq.read_table(asked.rows).to_pylist()
    vectors = model.encode([row["text"] for row in rows])
    marks["encoded"] = time.time() - BEGAN
    if asked.into:
        insert(asked.into, rows, vectors)
        marks["inserted"] = time.time() - BEGAN
    marks["CPU when done"] = time.process_time()
    if asked.vectors:
        np.save(asked.vectors, vectors)
    asked.figures.write_text(json.dumps(marks))


def insert(uri: str, rows: list[dict[str, Any]], vectors: Any, batch: int = 1_000) -> None:
    from pymilvus import MilvusClient  # noqa: PLC0415

    client = MilvusClient(uri)
    client.create_collection("bench", dimension=vectors.shape[1], id_type="string", max_length=512)
    data = [{"id": row["id"], "vector": vector, "text": row["text"]} for row, vector in zip(rows, vectors, strict=True)]
    for first in range(0, len(data), batch):
        client.insert("bench", data[first : first + batch])
    assert client.search("bench", data=[vectors[0].tolist()], limit=1)[0]
    client.close()


if __name__ == "__main__":
    main()
