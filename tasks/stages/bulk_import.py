"""Import: a fresh collection is filled by the server itself, from the sealed parts.

An import knows no keys: the same file twice, or one key in two files, doubles rows. So each attempt fills a collection of
its own, whose name is noted before it is made; keys are counted before the first job starts; the rows are counted when
the jobs have ended; and only then the collection takes the real name. Whatever else happens, that collection is dropped,
and the rows are upserted instead: those that the ledger lacks, where another run took the name first. An attempt that a
killed run left is resumed where its jobs are known and its seals are unchanged; otherwise it is dropped. One
that a living run is at work on is left to it (`tasks.run.import_attempts`).
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
from tasks.run.import_attempts import OwnAttempt, attempts_of, collection_of, discard_left, note_again, staged_at
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import seals_of, shards_with_seals
from tasks.run.seals.shard_loading import begin_loading

log = logging.getLogger("kitestring.load")

IMPORT_POLL_SECONDS = 1.0
IMPORT_STUCK_SECONDS = 1_800.0  # without a percent more
LEDGER_SECONDS = 600.0
STATES_ASKED_AGAIN = 30  # of a server that does not answer for a while
SEEN_SECONDS = 120.0  # between a job's end and the day that strong reads see its rows: 15 s on Milvus 2.3.5
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
    if plan.checkpoint.attempts(plan.address) or note_again(plan):
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
    assert loader is not None  # `imports` has said so
    return loader


@task(name="import", cache_policy=NO_CACHE)
def import_shards(run: Run, plan: Plan, collection: Collection) -> None:
    """Fill a collection that is not there yet; where that does not succeed, it is still not there, and upserting may begin."""
    with run.journal.during("load"):
        try:
            if not _go_on(run, plan, collection) and plan.job.target.load != "upsert" and collection.describe() is None:
                _attempt(run, plan, collection)
        except KitestringError as error:
            log.warning("the import into '%s' did not succeed: %s; its rows are upserted instead", plan.spec.name, error)
            _await_ledger(plan)


def _await_ledger(plan: Plan) -> None:
    """Where another run's import has just taken the name, wait until it has written its ledger: its rows need no upserts."""
    deadline = time.monotonic() + LEDGER_SECONDS
    while any(attempt.state == "imported" and not left for attempt, left in attempts_of(plan)) and time.monotonic() < deadline:
        time.sleep(IMPORT_POLL_SECONDS)


def _go_on(run: Run, plan: Plan, collection: Collection) -> bool:
    """Finish an import of another run where its state is known, and discard abandoned ones; whether one was finished."""
    found, covers, finished = attempts_of(plan), SealSetDigest(), False
    for seal in seals_of(plan) if found else ():
        covers.add(seal)
    for attempt, left in found:
        known = attempt.covers == covers.digest and attempt.jobs and plan.job.target.load != "upsert"
        # Two runs may wait for the same jobs, and one will rename; upserts of the same keys by two would leave rows of both.
        if known and not finished and (left or not attempt.upserts):
            finished = _take_over(run, plan, collection, attempt, left=left)
        elif left:
            discard_left(plan, attempt)
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
    """From staged files to a collection with its name and its ledger.

    Raises:
        KitestringError: it did not succeed; nothing is left of it.
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
    """Where the server finds the files, and their record."""
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
        log.info("%d of %d rows have a double that is null or no finite number, which imports refuse: they are upserted", refused, rows)
    return files, {"rows": rows, "covers": covers.digest, "cut": cuts, "upserts": tuple(upserts)}


def _refuse_doubled(keys: SeenKeys, ids: list[str], first: int, seal: Seal) -> None:
    seen = keys.add(ids, range(first, first + len(ids)))
    if seen:
        raise Permanent(f"key '{ids[next(iter(seen))]}' of shard {seal.name} is in another shard, too, and an import would keep both rows")


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
    """Record whose rows are in it before it has its name: a run after a kill has to account for them, even with another source."""
    intents = (intent_of(shard, seal, run=attempt.run, at=utc_now()) for shard, seal in shards_with_seals(plan))
    for _ in ahead(partial(plan.checkpoint.intend_load, target), intents):
        pass


def _await(loader: BulkLoader, job: str) -> None:
    percent, since, silent = -1, time.monotonic(), 0
    while True:
        try:
            told, silent = loader.look(job), 0
        except Transient:
            silent += 1
            if silent > STATES_ASKED_AGAIN:
                raise
        else:
            if told.state == "done":
                return
            if told.state == "failed":
                raise Permanent(f"import {job}: {told.reason or 'the server gives no reason'}")
            if told.percent != percent:
                percent, since = told.percent, time.monotonic()
                log.info("import %s: %d%%", job, percent)
        if time.monotonic() - since > IMPORT_STUCK_SECONDS:
            raise Permanent(f"import {job}: stands at {percent}% for {IMPORT_STUCK_SECONDS:.0f} s")
        time.sleep(IMPORT_POLL_SECONDS)


def _await_rows(filled: Collection, rows: int) -> None:
    """Wait until strong reads see every row."""
    deadline = time.monotonic() + SEEN_SECONDS
    while (seen := filled.count()) != rows:
        if time.monotonic() > deadline:
            raise Transient(f"after an import of {rows} rows into '{filled.name}' at {filled.target.address}, {seen} can be seen")
        time.sleep(SEEN_PAUSE)


def _enter(run: Run, plan: Plan, collection: Collection, own: OwnAttempt) -> None:
    """The collection has its name: the ledger, and away with the scaffolding. No key was in two shards."""
    begin_loading(plan, collection)
    plan.checkpoint.record_owners(plan.target, Owners(covers=own.now.covers, policy=policy_of(plan.job), settled=True))
    with run.journal.telling(plan):
        for entry in plan.checkpoint.record_loads(plan.target, _entries(plan, own.now)):
            run.journal.note_load(entry)
    own.end()


def _entries(plan: Plan, attempt: ImportAttempt) -> Iterator[Loaded]:
    for shard, seal in shards_with_seals(plan):
        intent = intent_of(shard, seal, run=attempt.run, at=utc_now())
        yield intent.model_copy(update={"state": "loaded", "cut": attempt.cut.get(seal.shard, 0)})
