"""python -m tests.cluster.beside.ray_data SOURCE MODEL URI COLLECTION insert|upsert: embed rows with `ray.data` alone; runs on the hub.

As Ray's documentation has it: `read_parquet`, `map_batches` with a pool of actors that have loaded the model, and `map_batches` once more with
a pool that writes each batch into the database. Actors are spread, and leave a processor of each host for Ray's own reading.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ray
import ray.data
from pyarrow.fs import S3FileSystem
from pymilvus import MilvusClient

BATCH = 256  # as in the documentation
POOL = 3


def main(source: str, model: str, uri: str, collection: str, method: str) -> None:
    class Embedder:
        def __init__(self) -> None:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415

            self.model = SentenceTransformer(model, device="cpu", trust_remote_code=True)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch["vector"] = self.model.encode(list(batch["text"]), show_progress_bar=False)
            return batch

    class Writer:
        def __init__(self) -> None:
            self.client = MilvusClient(uri)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            rows = zip(batch["id"], batch["vector"], strict=True)
            getattr(self.client, method)(collection, [{"id": key, "vector": vector.tolist()} for key, vector in rows])
            return {"id": batch["id"]}

    ray.init("auto", logging_level="ERROR", log_to_driver=False)
    MilvusClient(uri).create_collection(collection, dimension=32, id_type="string", max_length=512)
    files = S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region=os.environ["AWS_DEFAULT_REGION"])
    rows = ray.data.read_parquet(source, filesystem=files, columns=["id", "text"], ray_remote_args={"num_cpus": 0.25})
    pool = ray.data.ActorPoolStrategy(size=POOL)
    embedded = rows.map_batches(Embedder, batch_size=BATCH, compute=pool, num_cpus=0.75, scheduling_strategy="SPREAD")
    embedded.map_batches(Writer, batch_size=BATCH, compute=pool, num_cpus=0.25, scheduling_strategy="SPREAD").materialize()


if __name__ == "__main__":
    main(*sys.argv[1:])
