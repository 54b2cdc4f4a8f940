"""Faults between two runs: the source, the address, the checkpoint or the collection changes, and the next run has to make it right.

Each lets a run end well, changes something, and leaves the next run to whoever called it (`machine.finish`, or another fault).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.chaos.corpus import MENDED, PART_ROWS, ROWS, corpus_table
from tests.chaos.house import BUCKET
from tests.chaos.launched import Stuck
from tests.chaos.raw import Raw, opened
from tests.chaos.trial import Trial

OTHER_DAY = 5_000  # the first row of the second day


# ---- the source ----


def fewer_rows(trial: Trial, path: Path) -> None:
    """Some rows leave a file."""
    table = pq.ParquetFile(path).read()
    stay = [n for n in range(table.num_rows) if trial.rng.random() < 0.7]
    pq.write_table(table.take(stay), path)
    trial.replaced += 1
    trial.notes.append(f"{table.num_rows - len(stay)} rows left {path.name}")


def file_leaves(trial: Trial, path: Path) -> Path:
    """A file leaves the source; where it is now."""
    left = trial.folder / "left" / path.name
    left.parent.mkdir(exist_ok=True)
    path.replace(left)
    trial.notes.append(f"{path.name} left")
    return left


def rows_leave(trial: Trial) -> None:
    """Rows of some files, or a file: an append keeps what came from that, a mirror does not."""
    chosen = trial.rng.sample(trial.files_now, trial.rng.randint(1, 3))
    for path in chosen:
        if trial.rng.random() < 0.7:
            fewer_rows(trial, path)
        elif trial.mode == "append":
            trial.retained.append(file_leaves(trial, path))
        else:
            file_leaves(trial, path)


def address_spelled_otherwise(trial: Trial) -> bool:
    """The same collection by another address, and then rows leave: the ledger has to be the collection's and not the address'."""
    trial.draw_mode()
    if trial.rng.random() < 0.5:
        trial.use_server()
    trial.complete()
    trial.target = _spelled_otherwise(trial)
    trial.notes.append(trial.target.replace(str(trial.folder), "..."))
    rows_leave(trial)
    return trial.change()


def _spelled_otherwise(trial: Trial) -> str:
    if trial.on_server:
        return trial.rng.choice((trial.target.replace("127.0.0.1", "localhost"), f"{trial.target}/"))
    path = Path(trial.target)
    linked = trial.folder / "by another way"
    linked.symlink_to(path.parent)
    return trial.rng.choice((str(linked / path.name), f"{path.parent}/rows/../{path.name}", os.path.relpath(path, trial.folder)))


def proof_failed_then_rows_left(trial: Trial) -> bool:
    """`verify` finds a row gone; then other rows of that shard leave the source: what is known of the shard must not be forgotten."""
    trial.draw_mode()
    trial.complete()
    path = trial.rng.choice(trial.files_now)
    key = f"row-{int(path.stem)}"  # no bad row stands at the beginning
    with trial_collection(trial) as raw:
        raw.delete([key])
    ended = trial.aside_run("verify", trial.job(), *trial.rng.choice(((), ("--full",))))
    trial.insist(ended.code == 4, f"verify did not find that {key} is gone: {ended.code} {ended.err[-300:]}")
    fewer_rows(trial, path)
    return trial.change()


def daily_append(trial: Trial) -> bool:
    """The next day's folder has files of the same names with other rows: an append adds them; a mirror has to be told."""
    trial.complete()
    yesterday, today = trial.source, trial.folder / "today"
    today.mkdir()
    for path in trial.files_now:
        pq.write_table(corpus_table(OTHER_DAY + int(path.stem)), today / path.name)
    trial.source, trial.replaced = today, trial.replaced + trial.files
    trial.settings |= {"source__uri": str(today)}
    if trial.rng.random() < 0.5:
        trial.retained += sorted(yesterday.glob("*.parquet"))
        return trial.change()
    trial.settings |= {"target__mode": "mirror", "target__allow_shrink": True}
    ended = trial.aside_run()
    trial.insist(ended.code == 2 and str(yesterday) in ended.err, f"a mirror moved by itself: {ended.code} {ended.err[-500:]}")
    trial.settings |= {"source__moved_from": str(yesterday)}
    trial.notes.append("moved_from")
    return trial.change()


def replay_after_a_file_left(trial: Trial) -> bool:
    """A file leaves an append, and the seals are replayed into another collection: its rows are there as well."""
    trial.complete()
    trial.retained.append(file_leaves(trial, trial.rng.choice(trial.files_now)))
    ended = trial.aside_run()
    trial.insist(ended.code == 0, f"a file left, and the run failed: {ended.err[-500:]}")
    trial.collection = f"{trial.collection}_again"
    trial.command = "replay"
    return trial.change()


# ---- the checkpoint ----


def seal_damaged(trial: Trial) -> bool:
    """A seal is empty, cut, no JSON, or edited so that its counts still fit."""
    trial.complete()
    return _document(trial, lambda key: key.endswith("/seal.json"), edited=True)


def ledger_damaged(trial: Trial) -> bool:
    """A ledger entry is empty, cut or no JSON."""
    trial.complete()
    return _document(trial, trial.is_entry)


def amendment_damaged(trial: Trial) -> bool:
    """What `quarantine retry` has added is empty, cut or no JSON; whether its rows are found again or set aside again, they are counted."""
    trial.complete()
    trial.more_environment |= {MENDED: "1"}
    ended = trial.aside_run("quarantine", "retry", trial.job())
    trial.insist(ended.code == 0, f"quarantine retry failed: {ended.err[-500:]}")
    trial.more_environment.pop(MENDED)
    trial.mended = True
    return _document(trial, lambda key: "/amend-" in key)


def _document(trial: Trial, wanted: Callable[[str], bool], *, edited: bool = False) -> bool:
    """Damage one; its parts may be good still, or are encoded again."""
    key = trial.rng.choice(sorted(key for key in trial.house.keys(trial.prefix) if wanted(key)))
    data = trial.house.get(key)
    how = trial.rng.choice(("empty", "cut", "no JSON", *(["edited"] if edited else [])))
    broken = {"empty": b"", "cut": data[: trial.rng.randrange(1, len(data))], "no JSON": b"\x00" + data[1:], "edited": data}[how]
    trial.house.put(key, _edited(broken) if how == "edited" else broken)
    trial.notes.append(f"{key.rsplit('/', 1)[1]} {how}")
    trial.extra_allowed += ROWS + 1
    trial.damaged_documents += 1
    return trial.change()


def _edited(data: bytes) -> bytes:
    """A seal without its last part, whose counts fit all the same."""
    seal: dict[str, Any] = json.loads(data)
    last = seal["parts"].pop()
    lost = last["rows"] + len(last["quarantined"])
    seal["embedded"] -= last["rows"]
    seal["source_rows"] -= lost
    seal["quarantined"] = [row for row in seal["quarantined"] if row["row"] < last["first"]]
    seal["source_rows"] = seal["embedded"] + seal["duplicates"] + len(seal["quarantined"])
    return json.dumps(seal).encode()


def part_damaged(trial: Trial) -> bool:
    """A sealed part is cut, changed by a byte, exchanged for another shard's, or gone: the run that reads it mends it, proof or load."""
    trial.complete()
    parts = sorted(key for key in trial.house.keys(trial.prefix) if "/part-" in key)
    key = trial.rng.choice(parts)
    trial.notes.append(damage_part(trial, key, parts))
    trial.extra_allowed += PART_ROWS + 1
    if trial.rng.random() < 0.6:
        trial.forget_collection()  # everything has to be loaded again; otherwise the proof's sample falls on every part
    trial.told = key.rsplit("/", 1)[1]
    return trial.change()


def damage_part(trial: Trial, key: str, parts: list[str]) -> str:
    """Break an object; how."""
    data = trial.house.get(key)
    how = trial.rng.choice(("truncated", "flipped", "exchanged", "gone"))
    at = trial.rng.randrange(len(data))
    if how == "truncated":
        trial.house.put(key, data[:at])
    elif how == "flipped":
        trial.house.put(key, data[:at] + bytes([data[at] ^ (1 << trial.rng.randrange(8))]) + data[at + 1 :])
    elif how == "exchanged":
        other = trial.rng.choice([part for part in parts if part.rsplit("/", 2)[0] != key.rsplit("/", 2)[0]])
        trial.house.put(key, trial.house.get(other))
    else:
        trial.house.client.delete_object(Bucket=BUCKET, Key=key)
    return f"{how} at {at} of {len(data)}"


# ---- the collection ----


def trial_collection(trial: Trial) -> Any:
    """It, by pymilvus."""
    return opened({"target": {"uri": trial.opens, "collection": trial.collection}})


def row_altered(trial: Trial) -> bool:
    """Somebody changes rows in the collection: the proof of the next run finds them, and the run mends them."""
    if trial.rng.random() < 0.5:
        trial.use_server()
    trial.complete()
    how = trial.rng.choice(sorted(ALTERED))
    with trial_collection(trial) as raw:
        ALTERED[how](raw, trial)
    trial.notes.append(how)
    return trial.change()


def _some(raw: Raw, trial: Trial) -> list[dict[str, Any]]:
    return trial.rng.sample(raw.rows(), trial.rng.choice((1, 5)))


def _turned(raw: Raw, trial: Trial) -> None:
    raw.upsert([{**row, "vector": row["vector"][1:] + row["vector"][:1]} for row in _some(raw, trial)])


def _counted_on(raw: Raw, trial: Trial) -> None:
    raw.upsert([{**row, "n": row["n"] + 1} for row in _some(raw, trial)])


def _emptied(raw: Raw, trial: Trial) -> None:
    raw.upsert([{**row, "text": ""} for row in _some(raw, trial)])


def _deleted(raw: Raw, trial: Trial) -> None:
    raw.delete([row["id"] for row in _some(raw, trial)])


def _exchanged(raw: Raw, trial: Trial) -> None:
    row, *_ = _some(raw, trial)
    raw.delete([row["id"]])
    raw.upsert([{**row, "id": f"{row['id']}x"}])


def _moved(raw: Raw, trial: Trial) -> None:
    row, *_ = _some(raw, trial)
    other = next(each["shard"] for each in raw.rows() if each["shard"] != row["shard"])
    raw.upsert([{**row, "shard": other}])


ALTERED: dict[str, Callable[[Raw, Trial], None]] = {
    "vectors turned": _turned,
    "numbers changed": _counted_on,
    "texts emptied": _emptied,
    "rows deleted": _deleted,
    "a key exchanged": _exchanged,
    "a row moved to another shard": _moved,
}


# ---- another encoder ----


def second_encoder_sets_all_aside(trial: Trial) -> bool:
    """An encoder that gives NaN for most rows: its run fails, and searches stay where they are."""
    trial.complete()
    before = {key.split("/")[2] for key in trial.house.keys(trial.prefix) if key.count("/") > 2}
    live = _alias(trial)
    ended = trial.aside_run(job=trial.job(encoder__model=str(trial.house.poor_model)))
    trial.insist(ended.code == 1, f"nearly all rows were set aside, and the run ended with {ended.code}")
    trial.other_encoders = {key.split("/")[2] for key in trial.house.keys(trial.prefix) if key.count("/") > 2} - before
    trial.extra_allowed += 3 * ROWS * trial.files
    if _alias(trial) != live:
        raise Stuck("a run that failed led searches to its collection")
    return trial.change()


def _alias(trial: Trial) -> str:
    with trial_collection(trial) as raw:
        return str(raw.name)
