"""What a trial embeds: a small corpus with a few bad rows, a slow model, and the vectors that an unbroken run gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from tasks.worker.optimize.quality import PROBE_TEXTS
from tests.builders.kitestring import text_of
from tests.builders.models import make_tiny_model

FILES, ROWS = 6, 100  # a shard for each file
PART_ROWS = 20
UNSAVED_ROWS = 2 * PART_ROWS  # one part is encoded, and one is on its way to the store
NO_TEXT, NO_KEY, POISON = 17, 41, 73  # bad rows of every file
BATCH_SECONDS = 0.1
COMMON_WORD = "they"  # in most texts
MENDED = "CHAOS_MENDED"  # where a process has this in its environment, the model stands every word

SLOW = '''
"""The last module of a model that takes its time, writes down what it is given, and answers one word with NaN."""
import json, os, time
from torch import nn

class Slow(nn.Module):
    def __init__(self, seconds, poison, probes):
        super().__init__()
        self.seconds, self.poison, self.probes = seconds, poison, probes

    def forward(self, features, **kwargs):
        ids = features["input_ids"]
        if count := os.environ.get("CHAOS_COUNT"):
            rows = [row[mask == 1].tolist() for row, mask in zip(ids, features["attention_mask"])]
            with open(count, "ab", buffering=0) as file:
                file.write(b"%d\\n" % sum(row not in self.probes for row in rows))
        time.sleep(self.seconds)
        bad = (ids == self.poison).any(dim=1)
        if "CHAOS_MENDED" not in os.environ:
            features["sentence_embedding"][bad] = float("nan")
        return features

    def save(self, path, *args, **kwargs):
        raise NotImplementedError

    @classmethod
    def load(cls, model_name_or_path, *args, **kwargs):
        return cls(**json.load(open(os.path.join(model_name_or_path, "slow.json"))))
'''


def make_slow_model(folder: Path, seconds: float = BATCH_SECONDS, poison: str = "poison") -> Path:
    """The tiny model, slow enough for something to happen while it works. `poison`: the word that it answers with NaN."""
    make_tiny_model(folder)
    modules = json.loads((folder / "modules.json").read_text())
    slow = {"idx": 2, "name": "2", "path": "", "type": "slow.Slow"}
    (folder / "modules.json").write_text(json.dumps([*modules, slow]))
    token = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"][poison]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    probes = [tokenizer.encode(text).ids for text in PROBE_TEXTS]  # what an encoder tries when it is loaded is no row
    (folder / "slow.json").write_text(json.dumps({"seconds": seconds, "poison": token, "probes": probes}))
    (folder / "slow.py").write_text(SLOW)
    return folder


def corpus_table(first: int, rows: int = ROWS, *, marked: str = "") -> pa.Table:
    """Rows [first, first + rows): keys, texts, a number; some of them bad. `marked` makes other texts of the same keys."""
    at = range(rows)
    texts: list[str | None] = [f"{text_of(first + n)} {marked}".strip() for n in at]
    keys: list[str | None] = [f"row-{first + n}" for n in at]
    for n in at:
        if n % 100 == NO_TEXT:
            texts[n] = None
        if n % 100 == NO_KEY:
            keys[n] = None
        if n % 100 == POISON:
            texts[n] = f"{texts[n]} poison"
    columns = {"id": pa.array(keys, pa.string()), "text": pa.array(texts, pa.string()), "n": pa.array([first + n for n in at])}
    return pa.table(columns)


def write_corpus(folder: Path, *, first: int = 0, files: int = FILES) -> None:
    """One Parquet file for each hundred rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        begin = first + number * ROWS
        pq.write_table(corpus_table(begin), folder / f"{begin:05}.parquet")


class Reference:
    """The vector of each text, by sentence-transformers itself, whole and in float32."""

    def __init__(self, model: Path) -> None:
        self._model, self._encoder = model, None
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Float32 of shape (texts, dim)."""
        new = sorted(set(texts) - self._known.keys())
        if new:
            self._known |= dict(zip(new, self._loaded().encode(new, convert_to_numpy=True), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _loaded(self):
        if self._encoder is None:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds

            self._encoder = SentenceTransformer(str(self._model), device="cpu")
        return self._encoder
