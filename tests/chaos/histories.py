"""Histories that a collection can have, each played by the real flows: what they leave is right, and a proof has to say so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.domain.errors import Permanent
from tests.builders.kitestring import text_of
from tests.chaos.corpus import MENDED
from tests.chaos.raw import opened
from tests.chaos.stage import FILE_ROWS, Job, Stage

LARGE_FILES = 6


def fresh(stage: Stage, files: int = 3, rows: int = FILE_ROWS, **settings: Any) -> Job:
    """One run of some files."""
    for number in range(files):
        stage.write(number, rows)
    return stage.run(**settings)


def large(stage: Stage) -> Job:
    """3,000 rows: three times what a proof draws."""
    return fresh(stage, LARGE_FILES, 500, shards__rows=500)


def run_again(stage: Stage) -> Job:
    """A second run that has nothing to do."""
    fresh(stage)
    return stage.run()


def resumed_after_upserts(stage: Stage) -> Job:
    """The server took some rows, nobody heard of it, and the next run goes on."""
    for number in range(3):
        stage.write(number)
    with interrupted("upsert", 2):
        stage.fail(failures__retries=0)
    return stage.run()


def resumed_before_the_proof(stage: Stage) -> Job:
    """All rows are loaded, and the run ends before it has proved anything."""
    for number in range(3):
        stage.write(number)
    with interrupted("flush_and_index", 1):
        stage.fail(failures__retries=0)
    return stage.run()


def appended(stage: Stage) -> Job:
    """Another file comes."""
    fresh(stage)
    stage.write(3, 40)
    return stage.run()


def replaced(stage: Stage) -> Job:
    """A file has other texts of the same keys."""
    fresh(stage)
    stage.write(1, marked="again")
    return stage.run()


def shrunk(stage: Stage) -> Job:
    """A file lost rows, in append: those go."""
    fresh(stage)
    stage.write(1, 60)
    return stage.run()


def retained(stage: Stage) -> Job:
    """A file left the source in append: its rows stay."""
    fresh(stage)
    stage.remove(2)
    return stage.run()


def mirrored(stage: Stage) -> Job:
    """A mirror, one run."""
    return fresh(stage, target__mode="mirror")


def mirrored_shrink(stage: Stage) -> Job:
    """A mirror whose source lost a file and some rows of another."""
    fresh(stage, target__mode="mirror")
    stage.remove(2)
    stage.write(1, 80)
    return stage.run()


def mirrored_after_append(stage: Stage) -> Job:
    """Retained rows go when the job becomes a mirror."""
    retained(stage)
    return stage.run(target__mode="mirror")


def appended_after_mirror(stage: Stage) -> Job:
    """A mirror becomes an append, and a file leaves."""
    fresh(stage, target__mode="mirror")
    stage.remove(0)
    return stage.run(target__mode="append")


def came_back(stage: Stage) -> Job:
    """A file leaves in append, and comes back with other rows."""
    retained(stage)
    stage.write(2, 50, marked="back")
    return stage.run()


def set_aside(stage: Stage) -> Job:
    """Rows without text or key, and one that the model answers with NaN."""
    stage.write(0)
    stage.write(1, columns=_bad())
    return stage.run()


def retried(stage: Stage) -> Job:
    """The model is mended, and `quarantine retry` adds an amendment."""
    set_aside(stage)
    with patch.dict(os.environ, {MENDED: "1"}):
        stage.run_flow(stage.job(), "flows.retry.retry_quarantined")
    return stage.job()


def _bad() -> Job:
    texts: list[str | None] = [text_of(1_000 + n) for n in range(FILE_ROWS)]
    keys: list[str | None] = [f"row-{1_000 + n}" for n in range(FILE_ROWS)]
    texts[5], texts[6], keys[7] = None, f"{texts[6]} poison", None
    return {"text": pa.array(texts, pa.string()), "id": pa.array(keys, pa.string())}


def duplicates_first(stage: Stage) -> Job:
    """Twenty keys come in two files; the first has them."""
    return _duplicates(stage, "first")


def duplicates_last(stage: Stage) -> Job:
    """Twenty keys come in two files; the last has them."""
    return _duplicates(stage, "last")


def _duplicates(stage: Stage, policy: str) -> Job:
    stage.write(0)
    stage.write(1, first=80, marked="as it is in b")
    return stage.run(failures__on_duplicate=policy)


def owner_left(stage: Stage) -> Job:
    """The file that had the keys leaves a mirror, and the other one has them."""
    _duplicates(stage, "first")
    stage.remove(0)
    return stage.run(target__mode="mirror")


def shared(stage: Stage) -> Job:
    """Two corpora in one collection, and both say so."""
    fresh(stage, target__shared=True)
    _neighbour(stage).run()
    return stage.job()


def shared_other(stage: Stage) -> Job:
    """The same, seen by the one that came later."""
    fresh(stage, target__shared=True)
    return _neighbour(stage).run()


def _neighbour(stage: Stage) -> Stage:
    settings = {"corpus": "others", "target__shared": True}
    if not stage.uri:
        settings["target__uri"] = str(stage.folder / "rows.db")
    other = Stage(folder=stage.folder / "other", model=stage.model, run_flow=stage.run_flow, uri=stage.uri, collection=stage.collection)
    other.settings = settings
    other.write(50, 70)
    return other


def nulls(stage: Stage) -> Job:
    """No value in every field, JSON that is no object, arrays without elements."""
    some = {
        "n": pa.array([None if n % 7 == 0 else n for n in range(FILE_ROWS)], pa.int64()),
        "score": pa.array([None if n % 5 == 0 else float(n) for n in range(FILE_ROWS)], pa.float64()),
        "lang": pa.array([None if n % 3 == 0 else 'quo"te\n日本\\' for n in range(FILE_ROWS)], pa.string()),
        "live": pa.array([None if n % 4 == 0 else True for n in range(FILE_ROWS)], pa.bool_()),
        "tags": pa.array([[["a", "b"], None, [], [None, "c"]][n % 4] for n in range(FILE_ROWS)], pa.list_(pa.string())),
        "facts": pa.array([None if n % 6 == 0 else [{"at": n}] for n in range(FILE_ROWS)], pa.list_(pa.struct([("at", pa.int64())]))),
    }
    stage.write(0, columns=some)
    return stage.run()


def odd_numbers(stage: Stage) -> Job:
    """Infinity, minus nought, NaN and the largest numbers."""
    values = [float("nan"), float("inf"), -0.0, 1.7976931348623157e308, 5e-324, 0.1]
    some = {
        "score": pa.array([values[n % 6] for n in range(FILE_ROWS)], pa.float64()),
        "n": pa.array([[-(2**63) + 1, 2**63 - 1, 0][n % 3] for n in range(FILE_ROWS)], pa.int64()),
    }
    stage.write(0, columns=some)
    return stage.run()


def odd_keys(stage: Stage) -> Job:
    """Quotes, backslashes, percent signs, emoji and blanks in keys."""
    odd = ["a'b", 'a"b', "a\\b", "a%b", "\U0001f600", " a ", "a\nb", "日本", "a\tb", "é"]
    stage.write(0, columns={"id": pa.array([f"{odd[n % 10]}{n // 10}" for n in range(FILE_ROWS)], pa.string())})
    return stage.run()


def cut_texts(stage: Stage) -> Job:
    """A text longer than a field holds: its beginning is kept."""
    texts = [("ä kite " * 12_000 if n == 4 else "a kite ") + str(n) for n in range(FILE_ROWS)]
    stage.write(0, columns={"text": pa.array(texts, pa.string())})
    return stage.run()


def without_text(stage: Stage) -> Job:
    """`store_text: false`."""
    return fresh(stage, target__store_text=False)


def without_ids(stage: Stage) -> Job:
    """Keys are hashes of the content."""
    return fresh(stage, source__id=None)


def flat_l2(stage: Stage) -> Job:
    """Another metric, another index."""
    return fresh(stage, target__metric="L2", target__index={"type": "FLAT"})


def hnsw_ip(stage: Stage) -> Job:
    """The usual approximate index."""
    return fresh(stage, target__metric="IP", target__index={"type": "HNSW", "params": {"M": 16, "efConstruction": 100}})


def narrow_int8(stage: Stage) -> Job:
    """Vectors of one byte a number."""
    return fresh(stage, target__vector_type="int8")


def narrow_float16(stage: Stage) -> Job:
    """Vectors of two bytes a number."""
    return fresh(stage, target__vector_type="float16")


def imported(stage: Stage) -> Job:
    """The server filled the collection itself."""
    return fresh(stage, target__load="import")


def replayed(stage: Stage) -> Job:
    """The seals in another collection, by `replay`."""
    fresh(stage)
    return _replay(stage)


def replayed_retained(stage: Stage) -> Job:
    """A file had left an append; its rows go along."""
    retained(stage)
    return _replay(stage)


def _replay(stage: Stage) -> Job:
    job = stage.job(target__collection=f"{stage.collection}_again")
    stage.run_flow(job, "flows.replay.replay_seals")
    return job


def dropped_and_loaded_again(stage: Stage) -> Job:
    """Somebody dropped the collection, and a run made it anew."""
    job = fresh(stage)
    with opened(job) as raw:
        raw.drop()
    return stage.run()


@contextmanager
def interrupted(name: str, after: int) -> Iterator[None]:
    """The n-th call to a collection is carried out, and its answer never comes: the run gives up."""
    call, calls = getattr(MilvusCollection, name), iter(range(1, 10_000))

    def lost(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        if next(calls) >= after:
            raise Permanent("the answer never came")
        return result

    with patch.object(MilvusCollection, name, lost):
        yield


History = Callable[[Stage], Job]
ANYWHERE: dict[History, int] = {  # and the rows that are due
    fresh: 300,
    run_again: 300,
    resumed_after_upserts: 300,
    resumed_before_the_proof: 300,
    appended: 340,
    replaced: 300,
    shrunk: 260,
    retained: 300,
    mirrored: 300,
    mirrored_shrink: 180,
    mirrored_after_append: 200,
    appended_after_mirror: 300,
    came_back: 250,
    set_aside: 197,
    retried: 198,
    duplicates_first: 180,
    duplicates_last: 180,
    owner_left: 100,
    shared: 370,
    shared_other: 370,
    nulls: 100,
    odd_numbers: 83,  # NaN is set aside
    odd_keys: 100,
    cut_texts: 100,
    without_text: 300,
    without_ids: 300,
    flat_l2: 300,
    hnsw_ip: 300,
    replayed: 300,
    replayed_retained: 300,
    dropped_and_loaded_again: 300,
    large: 3_000,
}
ON_A_SERVER: dict[History, int] = {imported: 300}
ON_A_NEWER_SERVER: dict[History, int] = {narrow_int8: 300, narrow_float16: 300}
