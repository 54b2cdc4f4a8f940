"""Encode groups while the source is still being listed: listing a million files takes minutes, during which hosts would be idle.

This is done only if the corpus has no seal under its encoder and no ledger, so that no shard depends on shards still to be listed:
there is no vector of an earlier seal to reuse, no row to remove and no ledger entry to distrust. Everything else that a run resolves
before it writes is resolved before the first group. Loading waits for the end of the listing, which decides whether to import and
which entries are outdated. If the listing fails, shards sealed by then are kept, and the next run continues from them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from prefect.futures import PrefectFuture

from tasks.adapters.checkpoint.span_file import Spool, follow_spans
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import KitestringError
from tasks.domain.shards.shard import Shard
from tasks.domain.shards.task_groups import MOST_IN_GROUP, rows_of
from tasks.run.context import Run
from tasks.run.group_window import MOST_WAITING, GroupOfShards, Submit, Window
from tasks.run.plan import SPANS_FILE, Plan, check_target

EARLY_SECONDS = 5.0  # of listing before the first early group
FULL_GROUP = 4  # shards' worth of rows (`shards.rows`) in an early group: the total is not known yet
PAUSE_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class EarlyGroups:
    """The groups submitted early: those in `window` are in progress, the others done."""

    window: Window | None = None
    done: list[tuple[GroupOfShards, Exception | None]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def or_loaded(self, loaded: Container[str]) -> Container[str]:
        """The shards that need no further group: loaded, or submitted early."""
        return _Either(loaded, self.ids) if self.ids else loaded

    def continue_in(self, window: Window) -> None:
        """Move all groups to another window with the same first step. Later calls do nothing."""
        if self.window is not None:
            window.take_over(self.window, self.done)
        self.window, self.done = None, []


def start_early_groups(
    run: Run, planning: PrefectFuture[Plan], encode: Callable[[Plan], Submit], *, width: Callable[[], int]
) -> EarlyGroups:
    """Submit groups for encoding until the plan is complete.

    Args:
        run: the run.
        planning: the future of its plan.
        encode: submits a group under a plan that has no shards yet.
        width: the most groups in progress at a time.
    """
    early, planned = EarlyGroups(), threading.Event()
    planning.add_done_callback(lambda _: planned.set())
    plan = None if planned.wait(EARLY_SECONDS) else _plan_without_shards(run)
    if plan is None:
        return early
    early.window = Window(encode(plan), width=width, finish=lambda group, error: early.done.append((group, error)))
    for group in _groups(run, plan, planned):
        early.ids.update(shard.id for shard in group)
        early.window.push(group)
        if len(early.ids) >= MOST_WAITING:
            break
    return early


def _plan_without_shards(run: Run) -> Plan | None:
    """A plan without shards, with all resolved that must be before the first seal; None if early groups are not safe or a check fails.

    The plan stage repeats the checks and reports what failed.
    """
    try:
        record = run.inspected.pinned()
        if record is None or record.facts.server:
            facts = run.engine.facts()
            record = record or EncoderRecord(identity=run.inspected.identify(facts.precision), facts=facts)
        spool = Spool.empty()
        spool.scratch = run.scratch
        plan = Plan(run.inspected, spool, record)
        if next(iter(plan.checkpoint.sealed_ids()), None) or next(plan.checkpoint.noted_ids(plan.target), None):
            return None
        plan.confirm_encoder()
        plan.check_chunks()
        check_target(plan)
        plan.settle_columns()
        run.if_failed.append(plan.places.withdraw)
    except KitestringError:
        return None
    return plan.without_donors()


def _groups(run: Run, plan: Plan, planned: threading.Event) -> Iterator[GroupOfShards]:
    """Groups of shards in the order of the listing, until it ends."""
    aim, group, rows, settled = run.job.shards.rows, list[Shard](), 0, False
    for span in follow_spans(run.scratch / SPANS_FILE, planned.is_set, pause=lambda: planned.wait(PAUSE_SECONDS)):
        if span.files[0].root != plan.roots.now or not (settled or _settles(plan)):
            return
        settled = True
        group.append(plan.name(span))
        rows += rows_of(group[-1], aim=aim)
        if rows >= FULL_GROUP * aim or len(group) >= MOST_IN_GROUP:
            yield group
            group, rows = [], 0


def _settles(plan: Plan) -> bool:
    """Record what shard ids depend on; return False if that fails.

    It must follow the listing: the root of one file is its folder, and that of `gcs://lake` is `gs://lake`. The first root is recorded for ever.
    """
    try:
        plan.settle_places()
    except KitestringError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Either(Container[str]):
    one: Container[str]
    other: Container[str]

    def __contains__(self, shard: object) -> bool:
        return shard in self.one or shard in self.other
