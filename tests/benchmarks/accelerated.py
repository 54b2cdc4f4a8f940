"""What `accelerate launch` starts, as its guide to distributed inference has it: each process takes its share of the texts.

accelerate launch --num_processes 2 tests/benchmarks/accelerated.py ROWS.parquet MODEL VECTORS.npy BATCH
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow.parquet as pq
from accelerate import PartialState
from accelerate.utils import gather_object
from sentence_transformers import SentenceTransformer


def main() -> None:
    rows, model, out, batch = sys.argv[1:]
    state = PartialState(cpu=True)
    loaded = SentenceTransformer(model, device="cpu")
    texts = pq.read_table(rows, columns=["text"])["text"].to_pylist()
    with state.split_between_processes(texts) as mine:
        vectors = loaded.encode(mine, batch_size=int(batch), show_progress_bar=False)
    gathered = gather_object(list(vectors))
    if state.is_main_process:
        np.save(out, np.stack(gathered))
    state.destroy_process_group()


if __name__ == "__main__":
    main()
