"""Random edits of a source, in append and in mirror and switching between them, with a model of what the collection has to hold.

Two kinds of source: a folder of pictures, whose shards span ten files each, so that one that comes or goes moves the bounds of all
that follow; and Parquet files, between which rows move. After each round the run has ended well and proved, and the collection holds
exactly what the model says: in a mirror the source, in append the source and the rows of files that have left it. While a round is
under way, after each of its writes, nothing that stands before it and has to stand after it is missing.

    python -m tests.chaos.edits --rounds 20 --seed 1
    python -m tests.chaos.edits --kind pictures --uri http://...
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.mirror import SERVER_GAP, watched
from tests.chaos.raw import opened
from tests.flows.inprocess import RunFlow, flows_in_process
from tests.flows.kitestring import make_job, text_of
from tests.models import Clip, make_tiny_clip, make_tiny_model
from tests.servers.prefect import prefect_process
from tests.worker.pictures import saved, scene

PICTURES, SPAN = 30, 10  # three shards of ten files
TABLES, TABLE_ROWS = 5, 12
EDITS = 3  # at most, in a round
COSINE = 0.9999
Job = dict[str, Any]


@dataclass
class Corpus(ABC):
    """A source under edit: rows by file, each row a key and the number that its content is made from."""

    folder: Path
    random: random.Random
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    made: int = 0
    gone: list[str] = field(default_factory=list)  # files that left, which may come back

    @property
    def rows(self) -> dict[str, int]:
        return {key: content for rows in self.files.values() for key, content in rows.items()}

    @property
    def source(self) -> Path:
        return self.folder / "rows"

    def begin(self) -> None:
        """The files of before the first round."""
        self.source.mkdir(parents=True)
        for name in self.first_names():
            self.files[name] = self.new_rows(name)
            self.write(name)

    def edit(self) -> list[str]:
        """Some edits; what they were."""
        return [self._one_edit() for _ in range(self.random.randint(0, EDITS))]

    def _one_edit(self) -> str:
        act = self.random.choice((self._add, self._add, self._remove, self._remove, self._come_back, self.change))
        name = act()
        if name in self.files:
            self.write(name)
        elif name:
            (self.source / name).unlink()
        return f"{act.__name__.strip('_')} {name}"

    def _add(self) -> str:
        """Somewhere in the order of names: before all others in a third of the cases."""
        name = self.new_name("0000" if self.random.random() < 1 / 3 else f"{self.random.randrange(10_000):04}")
        self.files[name] = self.new_rows(name)
        return name

    def _remove(self) -> str:
        if len(self.files) < 3:
            return ""
        name = min(self.files) if self.random.random() < 1 / 3 else self.random.choice(sorted(self.files))
        del self.files[name]
        self.gone.append(name)
        return name

    def _come_back(self) -> str:
        """With new content."""
        if not self.gone:
            return ""
        name = self.gone.pop(self.random.randrange(len(self.gone)))
        self.files[name] = self.new_rows(name)
        return name

    def content(self) -> int:
        """A number that nothing had."""
        self.made += 1
        return self.made

    @abstractmethod
    def first_names(self) -> list[str]: ...

    @abstractmethod
    def new_name(self, place: str) -> str:
        """The name of a new file that sorts there."""

    @abstractmethod
    def new_rows(self, name: str) -> dict[str, int]: ...

    @abstractmethod
    def change(self) -> str:
        """Other rows in a file; its name."""

    @abstractmethod
    def write(self, name: str) -> None: ...

    @abstractmethod
    def job(self, **settings: Any) -> Job: ...

    @abstractmethod
    def wrong(self, row: dict[str, Any], content: int) -> str:
        """What is wrong with a row of the collection that has to be of that content; empty: nothing."""


@dataclass
class Pictures(Corpus):
    """One row a file. Vectors are held against those of open_clip itself."""

    clip: Clip | None = None
    _known: dict[int, np.ndarray] = field(default_factory=dict)

    def first_names(self) -> list[str]:
        return [f"{100 + 300 * n:04}.png" for n in range(PICTURES)]

    def new_name(self, place: str) -> str:
        return f"{place}-{self.content()}.png"

    def new_rows(self, name: str) -> dict[str, int]:
        return {name: self.content()}

    def change(self) -> str:
        name = self.random.choice(sorted(self.files))
        self.files[name] = self.new_rows(name)
        return name

    def write(self, name: str) -> None:
        (self.source / name).write_bytes(saved(scene(self.files[name][name]), "PNG"))

    def job(self, **settings: Any) -> Job:
        assert self.clip
        encoder = {"kind": "open-clip", "architecture": self.clip.architecture, "pretrained": "", "precision": "float32"}
        source = {"kind": "images", "uri": str(self.source)}
        return make_job(self.folder, self.folder, source=source, encoder=encoder, shards__rows=SPAN, **settings)

    def wrong(self, row: dict[str, Any], content: int) -> str:
        have, want = np.asarray(row["vector"]), self._vector(content)
        cosine = float(have @ want / np.linalg.norm(have) / np.linalg.norm(want))
        return "" if cosine > COSINE else f"cosine {cosine:.4f} to its picture"

    def _vector(self, content: int) -> np.ndarray:
        import open_clip  # noqa: PLC0415 - takes seconds
        import torch  # noqa: PLC0415

        if not self._known:
            assert self.clip
            self._model, self._prepared = open_clip.create_model_from_pretrained(self.clip.architecture)
        if content not in self._known:
            with torch.inference_mode():
                picture = self._prepared(scene(content)).unsqueeze(0)
                self._known[content] = self._model.eval().encode_image(picture, normalize=True)[0].numpy()
        return self._known[content]


@dataclass
class Tables(Corpus):
    """Some rows a file; they move between files, too."""

    model: Path | None = None

    def first_names(self) -> list[str]:
        return [f"{1_000 + 1_000 * n:04}.parquet" for n in range(TABLES)]

    def new_name(self, place: str) -> str:
        return f"{place}-{self.content()}.parquet"

    def new_rows(self, name: str) -> dict[str, int]:
        return {f"row-{number}": number for number in (self.content() for _ in range(TABLE_ROWS))}

    def change(self) -> str:
        name = self.random.choice(sorted(self.files))
        rows = self.files[name]
        for key in self.random.sample(sorted(rows), min(2, len(rows))):
            rows[key] = self.content()
        for key in self.random.sample(sorted(rows), min(2, len(rows) - 1)):
            content, other = rows.pop(key), self.random.choice([*self.files, ""])
            if other:  # otherwise it is gone
                self.files[other][key] = content
                self.write(other)
        rows |= {f"row-{number}": number for number in [self.content()]}
        return name

    def write(self, name: str) -> None:
        keys, texts = list(self.files[name]), [text_of(content) for content in self.files[name].values()]
        table = pa.table({"id": pa.array(keys, pa.string()), "text": pa.array(texts, pa.string())})
        pq.write_table(table, self.source / name)

    def job(self, **settings: Any) -> Job:
        assert self.model
        return make_job(self.folder, self.model, shards__rows=SPAN, **settings)

    def wrong(self, row: dict[str, Any], content: int) -> str:
        return "" if row["text"] == text_of(content) else f"text {row['text'][:40]!r}"


@dataclass
class Model:
    """What the collection has to hold: a row's content, and the file that it came from."""

    held: dict[str, tuple[int, str]] = field(default_factory=dict)

    def after(self, corpus: Corpus, mode: str) -> None:
        """A run has ended: the source, and in append what came from files that are there no more."""
        source = {key: (content, name) for name, rows in corpus.files.items() for key, content in rows.items()}
        stay = {key: held for key, held in self.held.items() if held[1] not in corpus.files} if mode == "append" else {}
        self.held = stay | source


def play(run_flow: RunFlow, corpus: Corpus, *, rounds: int, seed: int, uri: str | None = None, mode: str | None = None) -> Iterator[str]:
    """Rounds of edits, each checked; a line for each. `mode`: always that one, otherwise it is drawn anew for each round."""
    corpus.begin()
    model, drawn = Model(), random.Random(f"modes {seed}")
    where = {"target__uri": uri} if uri else {}
    for number in range(rounds + 1):
        chosen = mode or drawn.choice(("append", "mirror"))
        edits = corpus.edit() if number else ["the first run"]
        before = dict(model.held)
        model.after(corpus, chosen)
        job = corpus.job(target__mode=chosen, target__allow_shrink=True, target__collection=f"edits_{seed}", **where)
        began = time.monotonic()
        with watched(before.keys() & model.held.keys(), SERVER_GAP if uri else 0.0):
            result = run_flow(job)
        said = f"round {number}, {chosen}: {', '.join(edits) or 'nothing'}"
        assert result["verified"] is True, said
        check(job, corpus, model, said)
        yield f"{said}; {len(model.held)} in the collection, {time.monotonic() - began:.1f} s"


def check(job: Job, corpus: Corpus, model: Model, said: str) -> None:
    """The collection holds what the model says, each row once."""
    with opened(job) as raw:
        rows = raw.rows()
        total = raw.count()
    found = {row["id"]: row for row in rows}
    lost, strange = sorted(model.held.keys() - found.keys()), sorted(found.keys() - model.held.keys())
    wrong = [f"{key}: {why}" for key, row in found.items() if key in model.held and (why := corpus.wrong(row, model.held[key][0]))]
    assert len(rows) == len(found) == total, f"{said}: {total} rows of {len(found)} keys"
    assert lost + strange + wrong == [], f"{said}: lost {lost[:5]}, does not belong there {strange[:5]}, wrong {wrong[:5]}"


def main() -> int:
    """Many rounds, on Milvus Lite or on a server."""
    options = _options()
    logging.disable(logging.WARNING)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="edits-") as place, prefect_process() as server, flows_in_process(server) as run_flow:
        folder = Path(place)
        (folder / "clip").mkdir()
        chosen: dict[str, Corpus] = {
            "pictures": Pictures(folder / "a", random.Random(options.seed), clip=make_tiny_clip(folder / "clip")),
            "tables": Tables(folder / "b", random.Random(options.seed), model=make_tiny_model(folder / "model")),
        }
        for kind, corpus in chosen.items():
            if options.kind not in (None, kind):
                continue
            try:
                for line in play(run_flow, corpus, rounds=options.rounds, seed=options.seed, uri=options.uri, mode=options.mode):
                    print(f"{kind} {line}", flush=True)
            except Exception as error:  # noqa: BLE001 - the other kind goes on
                failed = 1
                print(f"FAILED: --kind {kind} --seed {options.seed}: {error}", flush=True)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.edits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=("pictures", "tables"), help="left out, both")
    parser.add_argument("--mode", choices=("append", "mirror"), help="left out, drawn for each round")
    parser.add_argument("--uri", help="a Milvus server; left out, a Milvus Lite file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
