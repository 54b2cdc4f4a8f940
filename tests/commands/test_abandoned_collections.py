"""Collections with full text, and imports into them, are found where nobody goes back to them, whatever the analyzer was."""

from __future__ import annotations

import uuid
from pathlib import Path

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.commands.abandoned_collections import find_abandoned, find_imports
from tasks.domain.digest import digest
from tasks.domain.job.index import FullText
from tasks.domain.job.job import Job
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.domain.target.collection import collection_name, target_fingerprint
from tests.builders.collections import spec_of
from tests.builders.kitestring import make_job

WAYS = [None, FullText(), FullText(analyzer={"type": "english"})]
FINGERPRINT, DAYS = digest("tried once"), 24 * 3600.0


def a_job(folder: Path, model: Path) -> Job:
    return parse_job(make_job(folder, model, target__uri=f"memory://{uuid.uuid4()}"))


def test_each_collection_of_an_encoder_that_was_left_is_found(tmp_path: Path, tiny_model: Path) -> None:
    job = a_job(tmp_path, tiny_model)
    store, names = open_store(job.checkpoint), [collection_name("rows", FINGERPRINT, way) for way in WAYS]
    for name, way in zip(names, WAYS, strict=True):
        spec = spec_of(name, alias="rows", fingerprint=FINGERPRINT, full_text=way)
        identity = MemoryTarget(job.target.address).collection(name).ensure(spec)
        store.write(f"rows/{FINGERPRINT}/loads/{identity}/s.json", b"{}")
    other = "rows_of_somebody_else"
    MemoryTarget(job.target.address).collection(other).ensure(spec_of(other, alias="rows", fingerprint=FINGERPRINT))
    assert find_abandoned(job, store, {FINGERPRINT: 5 * DAYS}) == dict.fromkeys(names, FINGERPRINT)
    MemoryTarget(job.target.address).point("rows", names[1])
    assert find_abandoned(job, store, {FINGERPRINT: 5 * DAYS}).keys() == {names[0], names[2]}


def test_each_import_is_found_that_was_for_this_target(tmp_path: Path, tiny_model: Path) -> None:
    job = a_job(tmp_path, tiny_model)
    checkpoint = Checkpoint(open_store(job.checkpoint), "rows", FINGERPRINT)
    for run, way in enumerate(WAYS):
        name = collection_name("rows", FINGERPRINT, way)
        attempt = ImportAttempt(run=f"r{run}", collection=f"{name}_import_{run}", rows=0, covers="")
        checkpoint.record_attempt(target_fingerprint(job.target, name), attempt)
        checkpoint.record_attempt(digest(f"another target {run}")[:16], attempt.model_copy(update={"run": f"other-{run}"}))
    found = find_imports(job, checkpoint.store, {FINGERPRINT: 5 * DAYS})
    assert sorted(attempt.run for _, _, attempt in found) == ["r0", "r1", "r2"]
