"""The audit: the end state, looked at from outside. Nothing of Kitestring's own readers, stores or proofs is used."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from tests.chaos.corpus import ROWS, UNSAVED_ROWS
from tests.chaos.raw import client_of
from tests.chaos.trial import Trial

COSINE = 0.99999
RANKS = 2
SEEN_BY_MODEL = ROWS - 2 + 1  # rows of a file: not those without key or text; the one that gives NaN is tried again alone


@dataclass(slots=True)
class Findings:
    """What is wrong, by kind; all empty in a trial that went well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    extra: int = 0  # rows encoded beyond those of an unbroken run

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.processes)


@dataclass(slots=True)
class Truth:
    """What the source says should be in the collection, and what should have been set aside."""

    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    aside: Counter[str] = field(default_factory=Counter)  # by reason
    rows: int = 0


def read_truth(trial: Trial) -> Truth:
    """The corpus by pyarrow alone."""
    truth = Truth()
    for path in sorted(trial.source.glob("*.parquet")):
        for row in pq.ParquetFile(path).read().to_pylist():
            truth.rows += 1
            key, text = row["id"], row["text"]
            if key is None:
                truth.aside["null id"] += 1
            elif text is None:
                truth.aside["empty text"] += 1
            elif "poison" in text:
                truth.aside["not finite"] += 1
            else:
                truth.texts[key], truth.numbers[key] = text, row["n"]
    return truth


def audit(trial: Trial) -> Findings:
    """Everything, after the last run has ended."""
    findings = Findings()
    truth = read_truth(trial)
    left = trial.processes()
    findings.processes = [f"{p.pid} {' '.join(p.cmdline())[:120]}" for p in left if p.is_running()]
    store = Stored(trial)
    store.check(findings, truth)
    check_collection(trial, truth, findings)
    unbroken = SEEN_BY_MODEL * (trial.files + trial.replaced)
    findings.extra = max(0, trial.encoded - unbroken)
    allowed = trial.kills * (RANKS * UNSAVED_ROWS + trial.files) + trial.extra_allowed  # each file's NaN is looked at twice, again
    if findings.extra > allowed:
        findings.wrong.append(f"{findings.extra} rows encoded again, {allowed} allowed")
    folders = sorted(path.name for path in trial.tmp.iterdir())
    if folders and trial.runs and trial.runs[-1].code == 0:
        findings.wrong.append(f"scratch left behind: {folders}")
    return findings


class Stored:
    """The checkpoint, by its listing and its bytes."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.keys = trial.house.keys(trial.prefix)
        self.seals: dict[str, Any] = {
            key: json.loads(trial.house.get(key)) for key in self.keys if key.endswith("/seal.json") and "/shards/" in key
        }

    def check(self, findings: Findings, truth: Truth) -> None:
        """Seals = shards; every part that a seal names is there and whole; quarantine as the source says."""
        loads = [key for key in self.keys if "/loads/" in key and not key.endswith("verified.json")]
        current = self._current()
        if len(self.seals) - self.trial.replaced > self.trial.files or len(current) != self.trial.files:
            findings.wrong.append(f"{len(current)} of {len(self.seals)} seals are of the {self.trial.files} files as they are")
        if len(loads) != self.trial.files:
            findings.wrong.append(f"{len(loads)} ledger entries for {self.trial.files} shards")
        keys: Counter[str] = Counter()
        for seal in current:
            keys += self._keys_of(seal, findings)
        findings.doubled += [f"{key} stands {count} times in sealed parts" for key, count in keys.items() if count > 1]
        findings.lost += [f"{key} is in no sealed part" for key in truth.texts.keys() - keys.keys()]
        self._check_quarantine(current, findings, truth)

    def _current(self) -> list[Any]:
        """The seals whose shards the ledger names: those of the corpus as it is."""
        loaded = {key.rsplit("/", 1)[1].removesuffix(".json") for key in self.keys if "/loads/" in key}
        return [seal for seal in self.seals.values() if seal["shard"] in loaded]

    def _keys_of(self, seal: Any, findings: Findings) -> Counter[str]:
        found: Counter[str] = Counter()
        for part in seal["parts"]:
            key = f"{self.trial.prefix}/{part['key']}"
            if key not in self.keys:
                findings.lost.append(f"{key}: a sealed part is gone")
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


def check_collection(trial: Trial, truth: Truth, findings: Findings) -> None:
    """Every row once, with the right vector and fields."""
    with client_of(trial.target) as client:
        rows = all_rows(client, trial.collection)
    times = Counter(row["id"] for row in rows)
    findings.doubled += [f"{key} is {count} times in the collection" for key, count in times.items() if count > 1]
    findings.lost += [f"{key} is not in the collection" for key in truth.texts.keys() - times.keys()]
    findings.wrong += [f"{key} does not belong in the collection" for key in times.keys() - truth.texts.keys()]
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


def all_rows(client: MilvusClient, name: str) -> list[dict[str, Any]]:
    (real,) = [found for found in client.list_collections() if found.startswith(f"{name}_")]
    if client.describe_alias(name)["collection_name"] != real:
        return []  # searches are led elsewhere
    name = real
    client.load_collection(name)
    fields = ["id", "vector", "text", "n", "shard"]
    return list(client.query(name, filter="id != ''", output_fields=fields, limit=16_000, consistency_level="Strong"))
