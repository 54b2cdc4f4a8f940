"""A model that stops in the middle of its work until it is let go, so that a test can act while every rank has something in hand."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from tasks.worker.optimize.quality import PROBE_TEXTS
from tests.builders.models import make_tiny_model

HELD = '''
"""The last module of a model: once its process has encoded some rows it waits for as long as a file is there."""
import json, os, time
from torch import nn

class Held(nn.Module):
    def __init__(self, file, rows, probes):
        super().__init__()
        self.file, self.left, self.probes = file, rows, probes

    def forward(self, features, **kwargs):
        rows = [row[mask == 1].tolist() for row, mask in zip(features["input_ids"], features["attention_mask"])]
        while self.left <= 0 and os.path.exists(self.file):
            time.sleep(0.02)
        self.left -= sum(row not in self.probes for row in rows)
        return features

    def save(self, path, *args, **kwargs):
        raise NotImplementedError

    @classmethod
    def load(cls, model_name_or_path, *args, **kwargs):
        return cls(**json.load(open(os.path.join(model_name_or_path, "held.json"))))
'''


def make_held_model(folder: Path, held_by: Path, *, rows: int) -> Path:
    """The tiny model; needs `trust_remote_code`. Each rank of it encodes so many rows, and more only once the file `held_by` is gone."""
    make_tiny_model(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": "held.Held"}]))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    probes = [tokenizer.encode(text).ids for text in PROBE_TEXTS]  # what an encoder tries when it is loaded is no row
    (folder / "held.json").write_text(json.dumps({"file": str(held_by), "rows": rows, "probes": probes}))
    (folder / "held.py").write_text(HELD)
    held_by.touch()
    return folder
