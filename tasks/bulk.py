"""Import: a fresh collection is filled by the server itself, from the sealed parts.

An import knows no keys: the same file twice, or one key in two files, doubles rows. So each attempt fills a collection of
its own, whose name is noted before it is made; keys are counted before the first job starts; the rows are counted when
the jobs have ended; and only then the collection takes the real name. Whatever else happens, that collection is dropped,
and the rows are upserted instead. An attempt that a killed run left is gone on with where its jobs are known and its
seals are still those; otherwise it is dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint import Checkpoint
from tasks.adapters.keys import KeyIndex
from tasks.adapters.milvus_bulk import BulkCollection
from tasks.adapters.milvus_import import Importer
from tasks.adapters.shard_keys import ShardKeys
from tasks.adapters.staging import Staging, clear
from tasks.adapters.stores import open_store
from tasks.domain.bulk import IMPORT_ROWS, ImportAttempt
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.job import Job
from tasks.domain.owners import Owners, policy_of
from tasks.domain.ports import Collection
from tasks.domain.seal import Cover, Loaded, Part, Seal
from tasks.plan import Plan
from tasks.preflight import open_target
from tasks.run import Run, utc_now
from tasks.seals import seals_of

log = logging.getLogger("kitestring.load")

POLL_SECONDS = 1.0
STUCK_SECONDS = 1_800.0  # without a percent more
STATES_ASKED_AGAIN = 30  # of a server that does not answer for a while


def imports(plan: Plan, collection: Collection) -> bool:
    """Whether this run fills its collection by import.

    Raises:
        BadInput: the job asks for it, and the server has none or cannot read the staged files.
    """
    target = plan.job.target
    if target.load == "import":
        _refuse_impossible(plan)
    if plan.checkpoint.read_attempt(plan.target):
        return True
    if target.load == "upsert" or not target.staging or target.vector_type != "float32" or collection.describe() is not None:
        return False
    return target.load == "import" or plan.spool.rows >= IMPORT_ROWS


def _refuse_impossible(plan: Plan) -> None:
    bulk = plan.inspected.open_bulk(plan.spec.name)
    try:
        bulk.importer()
    finally:
        bulk.close()
    if not plan.job.target.staging:
        raise BadInput(
            "target.load: an import needs target.staging: a folder or s3://bucket/prefix that the Milvus server reads files from"
        )


@task(name="import", cache_policy=NO_CACHE)
def import_shards(run: Run, plan: Plan, collection: Collection) -> None:
    """Fill a collection that is not there yet; where that does not succeed, it is still not there, and upserting may begin."""
    with run.journal.during("load"):
        try:
            if not _go_on(run, plan, collection) and plan.job.target.load != "upsert" and collection.describe() is None:
                _attempt(run, plan)
        except KitestringError as error:
            log.warning("the import into '%s' did not succeed: %s; its rows are upserted instead", plan.spec.name, error)
            discard(plan)


def discard(plan: Plan) -> None:
    """Drop what an unfinished attempt has left, and forget it."""
    discard_attempt(plan.job, plan.checkpoint, plan.target)


def discard_attempt(job: Job, checkpoint: Checkpoint, target: str) -> None:
    """The same for who has no plan. `target`: see `tasks.domain.collection.target_fingerprint`."""
    attempt = checkpoint.read_attempt(target)
    if attempt is None:
        return
    filled = open_target(job, attempt.collection)
    try:
        filled.drop()
    finally:
        filled.close()
    if job.target.staging:
        clear(open_store(job.target.staging), _prefix(target, attempt))
    checkpoint.forget_attempt(target)


def _go_on(run: Run, plan: Plan, collection: Collection) -> bool:
    """Finish what a killed run began, where it is known what it did."""
    attempt = plan.checkpoint.read_attempt(plan.target)
    if attempt is None:
        return False
    covers = Cover()
    for seal in seals_of(plan):
        covers.add(seal)
    if covers.digest != attempt.covers or not attempt.jobs or plan.job.target.load == "upsert":
        discard(plan)
        return False
    bulk = plan.inspected.open_bulk(attempt.collection)
    try:
        renamed = bulk.describe() is None and collection.describe() is not None
        if renamed and attempt.state == "imported":
            _enter(run, plan, attempt)
            return True
        _finish(run, plan, bulk, attempt)
    finally:
        bulk.close()
    return True


def _attempt(run: Run, plan: Plan) -> None:
    """From staged files to a collection with its name and its ledger.

    Raises:
        KitestringError: it did not succeed; what there is of it is noted.
    """
    attempt = ImportAttempt(run=run.id, collection=f"{plan.spec.name[:225]}_import_{run.id[-6:]}", rows=0, covers="")
    plan.checkpoint.record_attempt(plan.target, attempt)
    bulk = plan.inspected.open_bulk(attempt.collection)
    try:
        importer = bulk.importer()
        bulk.ensure(plan.spec)
        files, attempt = _stage(plan, bulk, attempt)
        jobs = importer.start(attempt.collection, files, idempotency_key=f"{plan.target}-{run.id}")
        attempt = attempt.model_copy(update={"jobs": tuple(jobs)})
        plan.checkpoint.record_attempt(plan.target, attempt)
        _finish(run, plan, bulk, attempt)
    finally:
        bulk.close()


def _stage(plan: Plan, bulk: BulkCollection, attempt: ImportAttempt) -> tuple[list[str], ImportAttempt]:
    columns, nullable = bulk.form()
    covers, rows, cuts = Cover(), 0, dict[str, int]()
    whole_urls = bulk.server.kind == "Zilliz Cloud"
    prefix = _prefix(plan.target, attempt)
    with KeyIndex() as keys, Staging(open_store(plan.job.target.staging), prefix, whole_urls=whole_urls) as staging:

        def stage(part: Part, seal: Seal) -> pa.Table:
            nonlocal rows
            table = plan.checkpoint.verified_part(part)
            _refuse_doubled(keys, table["id"].to_pylist(), rows, seal)
            rows += table.num_rows
            cut = staging.add(table, columns, nullable)
            if cut:
                cuts[seal.shard] = cuts.get(seal.shard, 0) + cut
            return table

        for seal in seals_of(plan):
            plan.checkpoint.refuse_condemned(seal)
            ShardKeys(plan.checkpoint).keep(covers.add(seal), partial(stage, seal=seal))
        files = staging.files()
    return files, attempt.model_copy(update={"rows": rows, "covers": covers.digest, "cut": cuts})


def _refuse_doubled(keys: KeyIndex, ids: list[str], first: int, seal: Seal) -> None:
    seen = keys.add(ids, range(first, first + len(ids)))
    if seen:
        raise Permanent(f"key '{ids[next(iter(seen))]}' of shard {seal.name} is in another shard, too, and an import would keep both rows")


def _finish(run: Run, plan: Plan, bulk: BulkCollection, attempt: ImportAttempt) -> None:
    importer = bulk.importer()
    for job in attempt.jobs:
        _await(importer, job)
    bulk.settle()
    bulk.await_rows(attempt.rows)
    attempt = attempt.model_copy(update={"state": "imported"})
    plan.checkpoint.record_attempt(plan.target, attempt)
    bulk.rename(plan.spec.name)
    _enter(run, plan, attempt)


def _await(importer: Importer, job: str) -> None:
    percent, since, silent = -1, time.monotonic(), 0
    while True:
        try:
            told, silent = importer.look(job), 0
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
        if time.monotonic() - since > STUCK_SECONDS:
            raise Permanent(f"import {job}: stands at {percent}% for {STUCK_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _enter(run: Run, plan: Plan, attempt: ImportAttempt) -> None:
    """The collection has its name: the ledger, and away with the scaffolding. No key was in two shards."""
    plan.checkpoint.record_owners(plan.target, Owners(covers=attempt.covers, policy=policy_of(plan.job), settled=True))
    with run.journal.telling(plan):
        for entry in plan.checkpoint.record_loads(plan.target, _entries(plan, attempt)):
            run.journal.note_load(entry)
    if plan.job.target.staging:
        clear(open_store(plan.job.target.staging), _prefix(plan.target, attempt))
    plan.checkpoint.forget_attempt(plan.target)


def _entries(plan: Plan, attempt: ImportAttempt) -> Iterator[Loaded]:
    for seal in seals_of(plan):
        yield Loaded(
            shard=seal.shard,
            group=seal.group,
            rows=seal.embedded,
            seal=seal.digest,
            cut=attempt.cut.get(seal.shard, 0),
            run=attempt.run,
            seconds=0.0,
            loaded_at=utc_now(),
        )


def _prefix(target: str, attempt: ImportAttempt) -> str:
    return f"{target}/{attempt.run}"
