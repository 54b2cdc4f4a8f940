"""Faults while rows of changed files take vectors over from earlier seals: a kill in the middle, and an old part that is damaged by then.

All files are written anew, their rows in another order and some of them edited: no shard is the one that it was, and few rows are new.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.changes import damage_part
from tests.chaos.corpus import NO_KEY, NO_TEXT, PART_ROWS, POISON, ROWS
from tests.chaos.kills import kill_run
from tests.chaos.trial import Trial

BAD = {NO_TEXT, NO_KEY, POISON}
TRIES = 2  # of a row whose vector is NaN, which no seal holds: with others and alone


def killed_while_vectors_are_taken_over(trial: Trial) -> bool:
    """kill -9 of the flow after some of the new parts or seals; the next run encodes what is new and nothing else."""
    trial.complete()
    edited, before, given = _write_anew(trial), trial.state(), trial.encoded
    run = trial.start()
    what, more = trial.rng.choice(("part", "seal")), trial.rng.randint(1, trial.files - 1)
    trial.notes.append(f"{edited} rows edited, killed after {more} new: {what}")
    struck = trial.until(lambda: trial.state()[what] >= before[what] + more, run)
    if struck:
        kill_run(trial, run)
    else:
        trial.end(run)
    _finish(trial, given, (1 + struck) * edited)
    return struck


def old_part_damaged(trial: Trial) -> bool:
    """A part that vectors would be taken from is not what was sealed any more: found by its checksum, and its rows are encoded."""
    trial.complete()
    edited, given = _write_anew(trial), trial.encoded
    parts = sorted(key for key in trial.house.keys(trial.prefix) if "/part-" in key)
    key = trial.rng.choice(parts)
    trial.notes.append(f"{edited} rows edited, {damage_part(trial, key, parts)}")
    _finish(trial, given, edited + PART_ROWS)
    trial.insist(trial.encoded > given + edited, "nothing of a damaged part was encoded")
    return True


def _write_anew(trial: Trial) -> int:
    """All files; how many rows have another text."""
    edited = 0
    for path in trial.files_now:
        rows = pq.ParquetFile(path).read()
        chosen = {at for at in range(ROWS) if at not in BAD and trial.rng.random() < 0.1}
        texts = [f"{text} anew" if at in chosen else text for at, text in enumerate(rows["text"].to_pylist())]
        order = trial.rng.sample(range(ROWS), ROWS)
        pq.write_table(rows.set_column(1, "text", pa.array(texts, pa.string())).take(order), path)
        edited += len(chosen)
    trial.replaced += trial.files
    return edited


def _finish(trial: Trial, given: int, allowed: int) -> None:
    """The next run ends well, and the model was given no more rows than that since."""
    ended = trial.aside_run()
    trial.insist(ended.code == 0, f"the run after it ended with {ended.code}: {ended.err[-800:]}")
    most = allowed + TRIES * trial.files * len(trial.runs)
    trial.insist(trial.encoded - given <= most, f"{trial.encoded - given} rows encoded, {most} are new")
