"""A source, a checkpoint and a collection, in which a history is played by the real flows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.domain.errors import KitestringError
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, text_of

FILE_ROWS = 100
METADATA = ["n", "score", "lang", "live", "tags", "facts"]
LANGUAGES = ("de", "en", "fr", "日本")
Job = dict[str, Any]


@dataclass(kw_only=True)
class Stage:
    """A source, a checkpoint and a collection of its own, in which a history is played. `uri`: a server; empty: a Milvus Lite file."""

    folder: Path
    model: Path
    run_flow: RunFlow
    uri: str = ""
    collection: str = "rows"
    settings: Job = field(default_factory=dict)

    def job(self, **settings: Any) -> Job:
        """The job, with the settings of before and some more."""
        self.settings = {**self.settings, **settings}
        ours: Job = {
            "source__metadata": METADATA,
            "encoder__trust_remote_code": True,
            "target__collection": self.collection,
            "target__staging": str(self.folder / "staging") if self.uri else "",
            "shards__rows": FILE_ROWS,
            "failures__max_quarantined": 0.5,
        }
        where = {"target__uri": self.uri} if self.uri else {}
        document = make_job(self.folder, self.model, **{**ours, **where, **self.settings})
        document["source"].update({name: value for name, value in document["source"].items() if value is not None})
        return document

    def run(self, **settings: Any) -> Job:
        """`kitestring run`, which has to end well; the job."""
        job = self.job(**settings)
        self.run_flow(job)
        return job

    def fail(self, **settings: Any) -> None:
        """A run that does not end well."""
        try:
            self.run_flow(self.job(**settings))
        except KitestringError:
            return
        raise AssertionError("a run that had to fail did not")

    def write(self, number: int, rows: int = FILE_ROWS, *, marked: str = "", first: int | None = None, columns: Job | None = None) -> None:
        """A Parquet file of rows with a field of each kind."""
        begin = number * 1_000 if first is None else first
        table = {**_columns(range(begin, begin + rows), marked), **(columns or {})}
        path = self.folder / "rows" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)

    def remove(self, number: int) -> None:
        """A file leaves the source."""
        (self.folder / "rows" / f"{number}.parquet").unlink()


def _columns(at: range, marked: str) -> dict[str, pa.Array]:
    return {
        "id": pa.array([f"row-{n}" for n in at], pa.string()),
        "text": pa.array([f"{text_of(n)} {marked}".strip() for n in at], pa.string()),
        "n": pa.array(at, pa.int64()),
        "score": pa.array([n / 7 for n in at], pa.float64()),
        "lang": pa.array([LANGUAGES[n % 4] for n in at], pa.string()),
        "live": pa.array([n % 3 == 0 for n in at], pa.bool_()),
        "tags": pa.array([[f"t{n % 5}", f"t{n % 9}"] for n in at], pa.list_(pa.string())),
        "facts": pa.array([{"who": f"p{n % 6}", "at": n} for n in at], pa.struct([("who", pa.string()), ("at", pa.int64())])),
    }
