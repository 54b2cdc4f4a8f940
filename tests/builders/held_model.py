"""A model that stops in the middle of its work until it is let go, so that a test can act while every rank has something in hand; and that
takes its time on a machine that is slow."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from tasks.worker.optimize.quality import PROBE_TEXTS
from tests.builders.models import make_tiny_model

HELD = '''
"""The last module of a model: once its process has encoded some rows it waits for as long as a file is there."""
import json, os, socket, time
from torch import nn

class Held(nn.Module):
    def __init__(self, file, rows, probes, row_seconds, slow):
        super().__init__()
        self.file, self.left, self.probes, self.row_seconds, self.slow = file, rows, probes, row_seconds, slow

    def forward(self, features, **kwargs):
        batch = [row[mask == 1].tolist() for row, mask in zip(features["input_ids"], features["attention_mask"])]
        rows = sum(row not in self.probes for row in batch)
        while rows and self.left <= 0 and os.path.exists(self.file):
            open(f"{self.file}.{socket.gethostname()}", "w").close()
            time.sleep(0.02)
        self.left -= rows
        time.sleep(rows * self.row_seconds * (10 if os.path.exists(self.slow) else 1))
        return features

    def save(self, path, *args, **kwargs):
        raise NotImplementedError

    @classmethod
    def load(cls, model_name_or_path, *args, **kwargs):
        return cls(**json.load(open(os.path.join(model_name_or_path, "held.json"))))
'''


SLOW = "/tmp/slow"  # where a machine has this file it takes ten times as long


def make_held_model(folder: Path, held_by: Path, *, rows: int, row_seconds: float = 0.0) -> Path:
    """The tiny model; needs `trust_remote_code`. Each rank of it encodes so many rows, and more only once the file `held_by` is gone; while it
    waits there is a file of that name and its machine's beside it."""
    make_tiny_model(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": "held.Held"}]))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    probes = [tokenizer.encode(text).ids for text in PROBE_TEXTS]  # what an encoder tries when it is loaded is no row
    (folder / "held.json").write_text(
        json.dumps({"file": str(held_by), "rows": rows, "probes": probes, "row_seconds": row_seconds, "slow": SLOW})
    )
    (folder / "held.py").write_text(HELD)
    held_by.touch()
    return folder
