"""Sources under random edits: a folder of pictures whose shards span ten files, and Parquet files between which rows move."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.builders.kitestring import make_job, text_of
from tests.builders.models import Clip
from tests.builders.worker.pictures import saved, scene

PICTURES, SPAN = 30, 10  # some three shards of ten files
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
