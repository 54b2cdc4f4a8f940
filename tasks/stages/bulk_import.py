"""Import: the server fills a new collection itself, from files made of the sealed parts.

An import ignores keys: importing a file twice, or files that share a key, duplicates rows. So each attempt fills a
collection of its own, recorded before it is created; keys are checked before the first job starts; rows are counted when
the jobs have ended; only then is the collection renamed to its final name. If anything fails, that collection is dropped and the
rows are upserted instead; if another run took the name first, only those that the ledger lacks. The attempt of a killed run is
resumed if its jobs are known and its seals are unchanged, otherwise dropped. That of an active run is left alone
(`tasks.run.import_attempts`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.rows.key_index import SeenKeys
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.job.index import IMPORT_ROWS
from tasks.domain.ports import Collection
from tasks.domain.shards.bulk_loader import BulkLoader
from tasks.domain.shards.duplicates import Owners, policy_of
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.domain.shards.seal import Loaded, Part, Seal, SealSetDigest, intent_of
from tasks.run.context import Run
from tasks.run.import_attempts import OwnAttempt, attempts_of, collection_of, discard_attempt, record_damaged_attempts, staged_at
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import seals_of, shards_with_seals
from tasks.run.seals.shard_loading import begin_loading

log = logging.getLogger("kitestring.load")

IMPORT_POLL_SECONDS = 1.0
IMPORT_STUCK_SECONDS = 1_800.0  # without progress in percent
LEDGER_SECONDS = 600.0
STATES_ASKED_AGAIN = 30  # retries of a status request that the server does not answer
SEEN_SECONDS = 120.0  # from a job's end until strong reads return its rows: 15 s on Milvus 2.3.5
SEEN_PAUSE = 0.5


def imports(plan: Plan, collection: Collection) -> bool:
    """Whether this run fills its collection by import.

    Raises:
        BadInput: the job asks for it, and the server has none or cannot read the staged files.
    """
    load, loader = plan.job.target.load, collection.target.bulk_loader()
    if load == "import":
        _refuse_impossible(plan, loader)
    if loader is None:
        return False
    if plan.checkpoint.attempts(plan.address) or record_damaged_attempts(plan):
        return True
    if load == "upsert" or not loader.takes(plan.spec) or collection.describe() is not None:
        return False
    return load == "import" or plan.spool.rows >= IMPORT_ROWS


def _refuse_impossible(plan: Plan, loader: BulkLoader | None) -> None:
    if loader is None:
        raise BadInput(f"target.load: a target of kind {plan.job.target.kind} has no import: leave it at auto")
    loader.check()


def _loader(collection: Collection) -> BulkLoader:
    loader = collection.target.bulk_loader()
    assert loader is not None  # `imports` has checked it
    return loader


@task(name="import", cache_policy=NO_CACHE)
def import_shards(run: Run, plan: Plan, collection: Collection) -> None:
    """Fill a collection that does not exist yet; if that fails, it still does not exist, and upserts may begin."""
    with run.journal.during("load"):
        try:
            if not _resume(run, plan, collection) and plan.job.target.load != "upsert" and collection.describe() is None:
                _attempt(run, plan, collection)
        except KitestringError as error:
            log.warning("the import into '%s' failed: %s; its rows are upserted instead", plan.spec.name, error)
            _await_ledger(plan)


def _await_ledger(plan: Plan) -> None:
    """If another run's import has just taken the name, wait until it has written its ledger, so that its rows are not upserted."""
    deadline = time.monotonic() + LEDGER_SECONDS
    while any(attempt.state == "imported" and not left for attempt, left in attempts_of(plan)) and time.monotonic() < deadline:
        time.sleep(IMPORT_POLL_SECONDS)


def _resume(run: Run, plan: Plan, collection: Collection) -> bool:
    """Finish another run's import if its state is known, and discard abandoned ones; returns whether one was finished."""
    attempts, covers, finished = attempts_of(plan), SealSetDigest(), False
    for seal in seals_of(plan) if attempts else ():
        covers.add(seal)
    for attempt, left in attempts:
        known = attempt.covers == covers.digest and attempt.jobs and plan.job.target.load != "upsert"
        # Two runs may wait for the same jobs, since only one can rename; but if both upserted the same keys, rows of both would stay.
        if known and not finished and (left or not attempt.upserts):
            finished = _take_over(run, plan, collection, attempt, left=left)
        elif left:
            discard_attempt(plan, attempt)
    return finished


def _take_over(run: Run, plan: Plan, collection: Collection, attempt: ImportAttempt, *, left: bool) -> bool:
    filled = collection.target.collection(attempt.collection)
    with OwnAttempt(plan, attempt) as own:
        try:
            if filled.describe() is None and collection.describe() is not None and attempt.state == "imported":
                _enter(run, plan, collection, own)
            else:
                _finish(run, plan, collection, filled, own)
        except KitestringError:
            if left:
                own.discard()
            raise
    return True


def _attempt(run: Run, plan: Plan, collection: Collection) -> None:
    """Stage and import files, and give the collection its name and its ledger.

    Raises:
        KitestringError: the attempt failed; everything of it was removed.
    """
    attempt = ImportAttempt(run=run.id, collection=collection_of(plan, run.id), rows=0, covers="")
    filled = collection.target.collection(attempt.collection)
    with OwnAttempt(plan, attempt) as own:
        try:
            _fill(plan, filled, own)
            _finish(run, plan, collection, filled, own)
        except KitestringError:
            own.discard()
            raise


def _fill(plan: Plan, filled: Collection, own: OwnAttempt) -> None:
    loader = _loader(filled)
    loader.check()
    filled.ensure(plan.spec)
    files, staged = _stage(plan, loader, own.now)
    own.note(**staged)
    jobs = loader.start(own.now.collection, files, idempotency_key=f"{plan.address}-{own.now.run}")
    own.note(jobs=tuple(jobs))


def _stage(plan: Plan, loader: BulkLoader, attempt: ImportAttempt) -> tuple[list[str], dict[str, Any]]:
    """Stage the files; returns the places at which the server finds them, and the fields of their record."""
    covers, rows, cuts = SealSetDigest(), 0, dict[str, int]()
    with SeenKeys() as keys, loader.stage(attempt.collection, staged_at(plan.address, attempt), plan.scratch) as staging:

        def stage(part: Part, seal: Seal) -> pa.Table:
            nonlocal rows
            table = plan.checkpoint.verified_part(part)
            _refuse_doubled(keys, table["id"].to_pylist(), rows, seal)
            rows += table.num_rows
            cut = staging.add(table)
            if cut:
                cuts[seal.shard] = cuts.get(seal.shard, 0) + cut
            return table

        for seal in seals_of(plan):
            plan.checkpoint.refuse_condemned(seal)
            ShardKeys(plan.checkpoint, plan.scratch).keep(covers.add(seal), partial(stage, seal=seal))
        files, (refused, upserts) = staging.files(), staging.upserts()
    if refused:
        log.info("%d of %d rows have a double that is null or not finite, which imports refuse: they are upserted", refused, rows)
    return files, {"rows": rows, "covers": covers.digest, "cut": cuts, "upserts": tuple(upserts)}


def _refuse_doubled(keys: SeenKeys, ids: list[str], first: int, seal: Seal) -> None:
    seen = keys.add(ids, range(first, first + len(ids)))
    if seen:
        raise Permanent(f"key '{ids[next(iter(seen))]}' of shard {seal.name} is also in another shard, and an import would keep both rows")


def _finish(run: Run, plan: Plan, collection: Collection, filled: Collection, own: OwnAttempt) -> None:
    loader, attempt = _loader(filled), own.now
    for job in attempt.jobs:
        _await(loader, job)
    for some in loader.staged_rows(attempt.upserts) if attempt.upserts else ():
        filled.upsert(some)
    filled.flush_and_index()
    _await_rows(filled, attempt.rows)
    own.note(state="imported")
    target = filled.identity() or plan.address
    _intend(plan, target, attempt)
    try:
        loader.rename(filled.name, plan.spec.name)
    except Permanent:  # the name is taken
        for shard in plan:
            plan.checkpoint.forget_load(target, shard.id)
        raise
    _enter(run, plan, collection, own)


def _intend(plan: Plan, target: str, attempt: ImportAttempt) -> None:
    """Record the shards of the rows before the rename: after a kill the next run must account for them, even with another source."""
    intents = (intent_of(shard, seal, run=attempt.run, at=utc_now()) for shard, seal in shards_with_seals(plan))
    for _ in ahead(partial(plan.checkpoint.intend_load, target), intents):
        pass


def _await(loader: BulkLoader, job: str) -> None:
    percent, since, silent = -1, time.monotonic(), 0
    while True:
        try:
            state, silent = loader.look(job), 0
        except Transient:
            silent += 1
            if silent > STATES_ASKED_AGAIN:
                raise
        else:
            if state.state == "done":
                return
            if state.state == "failed":
                raise Permanent(f"import {job}: {state.reason or 'the server gives no reason'}")
            if state.percent != percent:
                percent, since = state.percent, time.monotonic()
                log.info("import %s: %d%%", job, percent)
        if time.monotonic() - since > IMPORT_STUCK_SECONDS:
            raise Permanent(f"import {job}: no progress beyond {percent}% for {IMPORT_STUCK_SECONDS:.0f} s")
        time.sleep(IMPORT_POLL_SECONDS)


def _await_rows(filled: Collection, rows: int) -> None:
    """Wait until strong reads return every row."""
    deadline = time.monotonic() + SEEN_SECONDS
    while (visible := filled.count()) != rows:
        if time.monotonic() > deadline:
            raise Transient(f"after an import of {rows} rows into '{filled.name}' at {filled.target.address}, {visible} are visible")
        time.sleep(SEEN_PAUSE)


def _enter(run: Run, plan: Plan, collection: Collection, own: OwnAttempt) -> None:
    """Write the ledger of the renamed collection, and remove the attempt. No key is in two shards."""
    begin_loading(plan, collection)
    plan.checkpoint.record_owners(plan.target, Owners(covers=own.now.covers, policy=policy_of(plan.job), settled=True))
    with run.journal.emitting(plan):
        for entry in plan.checkpoint.record_loads(plan.target, _entries(plan, own.now)):
            run.journal.note_load(entry)
    own.end()


def _entries(plan: Plan, attempt: ImportAttempt) -> Iterator[Loaded]:
    for shard, seal in shards_with_seals(plan):
        intent = intent_of(shard, seal, run=attempt.run, at=utc_now())
        yield intent.model_copy(update={"state": "loaded", "cut": attempt.cut.get(seal.shard, 0)})
