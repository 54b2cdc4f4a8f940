"""Plan: determine the work from listings, footers and the commits of earlier runs."""

from __future__ import annotations

from itertools import chain

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.hosts_record import HostsRecord
from tasks.adapters.checkpoint.span_file import Spool
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import BadInput
from tasks.domain.shards.unread_files import format_unread
from tasks.run.column_samples import source_notes
from tasks.run.context import Run
from tasks.run.model_notes import model_notes
from tasks.run.plan import Plan, check_target, plan_again, spool_spans
from tasks.run.seals.doubtful_files import refuse_doubtful


@task(name="plan", cache_policy=NO_CACHE)
def plan_shards(run: Run) -> Plan:
    """Cut the source into shards, on the first run while the encoder loads, and determine the encoder's record."""
    inspected = run.inspected
    with run.journal.during("plan"):
        pinned = inspected.pinned()
        if pinned is None:
            run.engine.start()
        spool = spool_spans(inspected, run.scratch, run.journal.note_listed)
    record = pinned or _introduce(run)
    with run.journal.during("plan"):
        plan = Plan(inspected, spool, record)
        plan.confirm_encoder()
        plan.check_chunks()
        check_target(plan)
        refuse_doubtful(plan)
        plan.note_ledger()
        plan.settle_columns()
        run.if_failed.append(plan.places.withdraw)
        plan.settle_places()
        for note in chain(model_notes(inspected, plan.spec.metric), source_notes(inspected, spool)):
            run.journal.note(note)
    run.journal.note_planned(spool.shards)
    run.journal.listeners.append(HostsRecord(run.id, plan.checkpoint))
    _note_unread(run, spool)
    return plan


@task(name="plan", cache_policy=NO_CACHE)
def plan_sealed(run: Run) -> Plan:
    """Return the plan of a corpus that is already sealed, for another target.

    Raises:
        BadInput: no run of this corpus has sealed anything with this encoder.
    """
    with run.journal.during("plan"):
        plan = plan_again(run.inspected, run.scratch)
        if plan is None:
            raise BadInput(f"corpus '{run.job.corpus}' holds nothing made with this encoder: `kitestring run` makes it")
        plan.confirm_encoder()
        check_target(plan)
        refuse_doubtful(plan, encodes=False)
        plan.note_ledger()
        plan.settle_columns()
        plan.settle_places()
    run.journal.shards = plan.spool.shards
    _note_unread(run, plan.spool)
    return plan


def _note_unread(run: Run, spool: Spool) -> None:
    if spool.unread:
        run.journal.note(format_unread(spool.unread))
    if spool.unversioned:
        run.journal.note(f"'{spool.unversioned}' has neither an ETag nor a time: a change that keeps its size is not detected")
    for finding in spool.found:
        run.journal.note(str(finding))


def _introduce(run: Run) -> EncoderRecord:
    """Wait for the encoder to load, and make the record of its facts."""
    with run.journal.during("start-up"):
        facts = run.engine.facts()
    return EncoderRecord(identity=run.inspected.identify(facts.precision, facts.quantized), facts=facts)
