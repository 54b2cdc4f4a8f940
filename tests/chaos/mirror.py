"""A mirror through many rounds of random edits, inserts and deletes of its source.

After each round the collection holds the source's rows and no others, and what was encoded are the texts that no round
before it had and nothing more. While a round loads and removes, after each of its writes, no row that stands in the source both
before and after it is missing.

    python -m tests.chaos.mirror --rounds 20 --seed 1
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tests.builders.inprocess import RunFlow, flows_in_process
from tests.builders.kitestring import make_job, text_of
from tests.builders.models import make_tiny_model
from tests.servers.prefect import prefect_process

FILES, ROWS, EDITS = 4, 30, 10
# Milvus 2.3.5 shows the two halves of an upsert one after the other: while one is under way, its rows may not be seen
# (0.4 s at most, once in some forty upserts that ran beside others, measured). Milvus Lite has no such gap.
SERVER_GAP = 3.0  # seconds


@dataclass
class Corpus:
    """The source: rows by file, and what the last edits did to it."""

    folder: Path
    random: random.Random
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    made: int = 0
    known: set[str] = field(default_factory=set)  # every text that there ever was

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        for number in range(FILES):
            self.files[f"{number}.parquet"] = dict(self._new_row() for _ in range(ROWS))
        self.known.update(self.rows.values())
        self._write(self.files)

    @property
    def rows(self) -> dict[str, str]:
        """Every row: its key and its text."""
        return {key: text for rows in self.files.values() for key, text in rows.items()}

    def edit(self) -> int:
        """Some edits, inserts, deletes and moves at random; rows whose text is a new one."""
        before = {name: list(rows.items()) for name, rows in self.files.items()}
        for _ in range(EDITS):
            self.random.choice((self._change, self._insert, self._delete, self._move))(self.random.choice(list(self.files)))
        changed = {name for name, rows in self.files.items() if list(rows.items()) != before[name]}
        self._write(changed)
        new = set(self.rows.values()) - self.known
        self.known |= new
        return len(new)

    def _new_row(self) -> tuple[str, str]:
        self.made += 1
        return f"row-{self.made}", text_of(self.made)

    def _change(self, name: str) -> None:
        if self.files[name]:
            self.files[name][self.random.choice(list(self.files[name]))] = self._new_row()[1]

    def _insert(self, name: str) -> None:
        key, text = self._new_row()
        self.files[name][key] = text

    def _delete(self, name: str) -> None:
        if self.files[name]:
            del self.files[name][self.random.choice(list(self.files[name]))]

    def _move(self, name: str) -> None:
        if self.files[name]:
            key = self.random.choice(list(self.files[name]))
            self.files[self.random.choice(list(self.files))][key] = self.files[name].pop(key)

    def _write(self, names: Any) -> None:
        for name in names:
            rows = self.files[name]
            pq.write_table(pa.table({"id": pa.array(rows, pa.string()), "text": pa.array(rows.values(), pa.string())}), self.folder / name)


@contextmanager
def watched(staying: set[str], gap: float) -> Iterator[list[str]]:
    """After each write to a collection, look for the keys that must never be missing; gives the writes, in order.

    `gap`: seconds within which a key that is not seen has to be there again.
    """
    writes: list[str] = []

    def watch(name: str) -> Any:
        write = getattr(MilvusCollection, name)

        def watching(collection: MilvusCollection, *arguments: Any) -> Any:
            result = write(collection, *arguments)
            writes.append(name)
            deadline = time.monotonic() + gap
            while missing := staying.difference(collection.fetch(sorted(staying))[0]):
                assert time.monotonic() < deadline, f"after {name}, write {len(writes)} of the round, missing: {sorted(missing)[:5]}"
            return result

        return patch.object(MilvusCollection, name, watching)

    with watch("upsert"), watch("delete_shard"):
        yield writes


def rows_in(uri: str, alias: str, *, texts: bool = True) -> dict[str, str]:
    """What a search through the alias could find: keys, and texts where the collection keeps them."""
    client = MilvusClient(uri)
    try:
        client.load_collection(alias)  # a Milvus Lite file that is opened again
        found = client.query(
            alias, filter='id != ""', output_fields=["id", "text"] if texts else ["id"], limit=16_384, consistency_level="Strong"
        )
    finally:
        client.close()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row.get("text", "") for row in found}


def play(run_flow: RunFlow, folder: Path, model: Path, *, rounds: int, seed: int, uri: str | None = None) -> Iterator[str]:
    """Rounds of edits, each checked; a line for each."""
    corpus = Corpus(folder / "rows", random.Random(seed))
    where = {"target__uri": uri} if uri else {}
    job = make_job(folder, model, target__mode="mirror", target__collection=f"mirror_{seed}", **where)
    run_flow(job)
    for number in range(1, rounds + 1):
        before = corpus.rows
        due = corpus.edit()
        began = time.monotonic()
        with watched(before.keys() & corpus.rows.keys(), SERVER_GAP if uri else 0.0) as writes:
            result = run_flow(job)
        assert result["rows"]["embedded"] == due, f"{result['rows']['embedded']} rows encoded, {due} with a new text"
        assert result["verified"] is True
        assert rows_in(job["target"]["uri"], job["target"]["collection"]) == corpus.rows
        first_removal = writes.index("delete_shard") if "delete_shard" in writes else len(writes)
        assert "upsert" not in writes[first_removal:], "rows were removed before every new one was there"
        yield f"round {number}: {due} rows encoded, {len(corpus.rows)} in the collection, {time.monotonic() - began:.1f} s"


def main() -> None:
    """Many rounds, on Milvus Lite or on a server."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--uri", help="A Milvus server; left out, a Milvus Lite file.")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirror-") as place, prefect_process() as server, flows_in_process(server) as run_flow:
        model = make_tiny_model(Path(place) / "model")
        for line in play(run_flow, Path(place) / "corpus", model, rounds=given.rounds, seed=given.seed, uri=given.uri):
            print(line, flush=True)


if __name__ == "__main__":
    main()
