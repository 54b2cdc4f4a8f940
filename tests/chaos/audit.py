"""The audit: the end state, looked at from outside. Nothing of Kitestring's own readers, stores or proofs is used."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.chaos.corpus import ROWS, UNSAVED_ROWS
from tests.chaos.house import BUCKET
from tests.chaos.raw import client_of, opened
from tests.chaos.trial import Trial

PREFECTS = ("runner_storage", "prefect-workspace-")  # what Prefect's worker leaves where it ran a deployment
COSINE = 0.99999
RANKS = 2
SETTLED = {"loaded", "outdated"}  # outdated: not of the source, and kept by an append
SEEN_BY_MODEL = ROWS - 2 + 1  # rows of a file: not those without key or text; the one that gives NaN is tried again alone


@dataclass(slots=True)
class Findings:
    """What is wrong, by kind; all empty in a trial that went well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)  # rows that nothing accounts for
    wrong: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)  # what `verify --full` says, and is not so
    processes: list[str] = field(default_factory=list)
    extra: int = 0  # rows encoded beyond those of an unbroken run

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.ghosts or self.wrong or self.lies or self.processes)

    def add(self, other: Findings) -> None:
        """What was found elsewhere."""
        for name in ("lost", "doubled", "ghosts", "wrong", "lies", "processes"):
            getattr(self, name).extend(getattr(other, name))


@dataclass(slots=True)
class Truth:
    """What the source says should be in the collection, and what should have been set aside."""

    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    aside: Counter[str] = field(default_factory=Counter)  # by reason
    rows: int = 0
    files: int = 0


def read_truth(trial: Trial, found: set[str]) -> Truth:
    """The files by pyarrow alone: those of the source, and those of which an append keeps the rows.

    Of a file that may be there or not, any of its keys among those that were `found` says that all have to be.
    """
    truth = Truth()
    there = [path for path in trial.either if found.intersection(_keys(path))]
    for path in [*trial.files_now, *trial.retained, *there]:
        truth.files += 1
        for row in pq.ParquetFile(path).read().to_pylist():
            truth.rows += 1
            key, text = row["id"], row["text"]
            if key is None:
                truth.aside["null id"] += 1
            elif text is None:
                truth.aside["empty text"] += 1
            elif "poison" in text and not (trial.mended and key in found):
                truth.aside["not finite"] += 1
            else:
                truth.texts[key], truth.numbers[key] = text, row["n"]
    return truth


def _keys(path: Path) -> set[str]:
    return {key for key in pq.ParquetFile(path).read(columns=["id"])["id"].to_pylist() if key is not None}


def audit(trial: Trial) -> Findings:
    """Everything, after the last run has ended."""
    findings = Findings()
    left = trial.processes()
    findings.processes = [f"{p.pid} {' '.join(p.cmdline())[:120]}" for p in left if p.is_running()]
    rows, total = read_collection(trial)
    truth = read_truth(trial, {row["id"] for row in rows})
    Stored(trial).check(findings, truth)
    in_collection = Findings()
    check_collection(trial, truth, in_collection, rows, total)
    findings.add(in_collection)
    check_scaffolding(trial, findings)
    check_costs(trial, findings)
    findings.lies = lies(trial, in_collection)
    return findings


def check_costs(trial: Trial, findings: Findings) -> None:
    """What was encoded again, and scratch."""
    unbroken = SEEN_BY_MODEL * (trial.files + trial.replaced)
    findings.extra = max(0, trial.encoded - unbroken)
    allowed = trial.kills * (RANKS * UNSAVED_ROWS + trial.files) + trial.extra_allowed  # each file's NaN is looked at twice, again
    if findings.extra > allowed:
        findings.wrong.append(f"{findings.extra} rows encoded again, {allowed} allowed")
    folders = sorted(path.name for path in trial.tmp.iterdir() if not path.name.startswith(PREFECTS))
    if folders and trial.runs and trial.runs[-1].code == 0:
        findings.wrong.append(f"scratch left behind: {folders}")


def check_scaffolding(trial: Trial, findings: Findings) -> None:
    """Of imports."""
    if trial.staging is None:
        return
    with client_of(trial.opens) as client:
        findings.wrong += [
            f"{name} is left" for name in client.list_collections() if name.startswith(trial.collection) and "_import_" in name
        ]
    findings.wrong += [f"staged: {path.name}" for path in trial.staging.rglob("*") if path.is_file()]


def lies(trial: Trial, found: Findings) -> list[str]:
    """`verify --full` has to say what the audit has found, the one way and the other."""
    ended = trial.ask("verify", "--full")
    right = found.clean
    if ended.code == (0 if right else 4):
        return []
    return [f"verify --full ends with {ended.code}, and the collection is {'right' if right else 'not'}: {(ended.out + ended.err)[-300:]}"]


class Stored:
    """The checkpoint, by its listing and its bytes."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.keys = {key: size for key, size in trial.house.keys(trial.prefix).items() if self._is_looked_at(key)}
        self.seals: dict[str, Any] = {key: self._amended(key) for key in self.keys if key.endswith("/seal.json") and "/shards/" in key}

    def _is_looked_at(self, key: str) -> bool:
        """Not what was moved aside because it could not be read, nor another encoder's."""
        return not ({"damaged"} | self.trial.other_encoders) & set(key.split("/"))

    def check(self, findings: Findings, truth: Truth) -> None:
        """Seals = shards; every part that a seal names is there and whole; quarantine as the source says."""
        findings.wrong += [f"{key} cannot be read" for key, seal in self.seals.items() if seal is None]
        loaded = self._loaded(findings)
        current = [seal for seal in self.seals.values() if seal and seal["shard"] in loaded]
        versions = self.trial.files + self.trial.replaced
        if len(self.seals) > versions or len(current) != truth.files:
            findings.wrong.append(f"{len(current)} of {len(self.seals)} seals are of the {truth.files} files as they are")
        if len(loaded) != truth.files:
            findings.wrong.append(f"{len(loaded)} ledger entries for {truth.files} shards")
        keys: Counter[str] = Counter()
        for seal in current:
            keys += self._keys_of(seal, findings)
        findings.doubled += [f"{key} stands {count} times in sealed parts" for key, count in keys.items() if count > 1]
        findings.lost += [f"{key} is in no sealed part" for key in truth.texts.keys() - keys.keys()]
        self._check_quarantine(current, findings, truth)

    def _document(self, key: str) -> Any:
        try:
            return json.loads(self.trial.house.get(key))
        except ValueError:
            return None

    def _loaded(self, findings: Findings) -> set[str]:
        """Shards of which the ledger of the collection that was proved last says that they are in it; an intent is younger than its entry."""
        found: dict[str, str] = {}
        for key in sorted(self.keys, key=lambda key: (key.endswith(".intent.json"), key)):
            if key.startswith(self._ledger()) and self.trial.is_entry(key):
                entry = self._document(key)
                if entry is None:
                    findings.wrong.append(f"{key} cannot be read")
                else:
                    found[entry["shard"]] = entry.get("state", "loaded")
        findings.wrong += [f"shard {shard} is {state}, which nobody has settled" for shard, state in found.items() if state not in SETTLED]
        return {shard for shard, state in found.items() if state in SETTLED}

    @cache  # noqa: B019 - one audit
    def _ledger(self) -> str:
        """Its folder."""
        proofs = [key for key in self.keys if "/loads/" in key and key.endswith("/verified.json")]
        newest = max(proofs, key=lambda key: self.trial.house.client.head_object(Bucket=BUCKET, Key=key)["LastModified"], default="/")
        return newest.removesuffix("verified.json")

    def _amended(self, key: str) -> Any:
        """A seal with its amendments folded in."""
        seal = self._document(key)
        folder = key.removesuffix("seal.json")
        for name in sorted(other for other in self.keys if other.startswith(f"{folder}amend-") and other.endswith(".json")):
            amendment = self._document(name)
            if seal and amendment:
                seal["parts"] += amendment["parts"]
                seal["embedded"] += len(amendment["recovered"])
                seal["quarantined"] = amendment["quarantined"]
        return seal

    def _keys_of(self, seal: Any, findings: Findings) -> Counter[str]:
        found: Counter[str] = Counter()
        for part in seal["parts"]:
            key = f"{self.trial.prefix}/{part['key']}"
            if key not in self.keys:
                findings.lost.append(f"{key}: a sealed part is missing")
                continue
            data = self.trial.house.get(key)
            if hashlib.sha256(data).hexdigest() != part["sha256"]:
                findings.wrong.append(f"{key}: not the bytes of its seal")
                continue
            found += Counter(pq.read_table(io.BytesIO(data), columns=["id"])["id"].to_pylist())
        if sum(found.values()) != seal["embedded"]:
            findings.wrong.append(f"{seal['name']}: {sum(found.values())} rows in parts, {seal['embedded']} in the seal")
        return found

    def _check_quarantine(self, current: list[Any], findings: Findings, truth: Truth) -> None:
        said = [row for seal in current for row in seal["quarantined"]]
        reasons = Counter(_kind(row["reason"]) for row in said)
        if reasons != truth.aside:
            findings.wrong.append(f"set aside: {dict(reasons)}, expected {dict(truth.aside)}")
        if sum(seal["source_rows"] for seal in current) != truth.rows:
            findings.wrong.append(f"{sum(seal['source_rows'] for seal in current)} source rows in seals, {truth.rows} in files")


def _kind(reason: str) -> str:
    return "not finite" if "finite" in reason or "NaN" in reason else reason.partition(":")[0]


def check_collection(trial: Trial, truth: Truth, findings: Findings, rows: list[dict[str, Any]], total: int) -> None:
    """Every row once, with the right vector and fields, and no others."""
    times = Counter(row["id"] for row in rows)
    findings.doubled += [f"{key} is {count} times in the collection" for key, count in times.items() if count > 1]
    findings.lost += [f"{key} is not in the collection" for key in truth.texts.keys() - times.keys()]
    findings.ghosts += [f"{key} does not belong in the collection" for key in times.keys() - truth.texts.keys()]
    if total != len(rows):
        findings.ghosts.append(f"{total} rows are counted, {len(rows)} are found")
    known = [row for row in rows if row["id"] in truth.texts]
    if not known:
        return
    have = np.asarray([row["vector"] for row in known], dtype=np.float32)
    want = trial.house.reference([truth.texts[row["id"]] for row in known])
    cosines = np.sum(have * want, axis=1) / np.linalg.norm(have, axis=1) / np.linalg.norm(want, axis=1)
    for row, cosine in zip(known, cosines, strict=True):
        if not cosine >= COSINE:
            findings.wrong.append(f"{row['id']}: cosine {cosine:.6f}")
        if (row["text"], row["n"]) != (truth.texts[row["id"]], truth.numbers[row["id"]]):
            findings.wrong.append(f"{row['id']}: another row's fields")


def read_collection(trial: Trial) -> tuple[list[dict[str, Any]], int]:
    """Every row that searches could find, and how many the server counts."""
    with opened({"target": {"uri": trial.opens, "collection": trial.collection}}) as raw:
        return raw.rows(), raw.count()
