"""Groups that are encoded while the source is still being listed: a listing of a million files takes minutes, and hosts cost more than that.

Where it is sound: the corpus has no seal under its encoder yet and no ledger, so that nothing of a shard depends on those that are still to be
listed. There is no vector of an earlier seal to take over, no row that has to leave, no entry to distrust. Whatever else a run settles before it
writes is settled before the first group. Loading waits for the end of the listing, which says whether to import and which entries are outdated.
Should the listing fail, what is sealed by then stays, and the next run goes on with it.
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

EARLY_SECONDS = 5.0  # of listing, after which it is worth while
FULL_GROUP = 4  # times the rows that a shard aims at: how many there will be in all is not known yet
PAUSE_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class EarlyGroups:
    """What was handed out early: still under way in `window`, or done."""

    window: Window | None = None
    done: list[tuple[GroupOfShards, Exception | None]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def beyond(self, loaded: Container[str]) -> Container[str]:
        """Shards that need not be handed out any more."""
        return _Either(loaded, self.ids) if self.ids else loaded

    def go_on_in(self, window: Window) -> None:
        """Another window, with the same first step, takes over; once."""
        if self.window is not None:
            window.take_over(self.window, self.done)
        self.window, self.done = None, []


def hand_out_early(run: Run, planning: PrefectFuture[Plan], encode: Callable[[Plan], Submit], *, width: Callable[[], int]) -> EarlyGroups:
    """Have groups encoded until the plan is complete.

    Args:
        run: the run.
        planning: its plan, on its way.
        encode: submits a group, by a plan that has no shards yet.
        width: groups that may be under way at a time.
    """
    early, over = EarlyGroups(), threading.Event()
    planning.add_done_callback(lambda _: over.set())
    plan = None if over.wait(EARLY_SECONDS) else _plan_so_far(run)
    if plan is None:
        return early
    early.window = Window(encode(plan), width=width, finish=lambda group, error: early.done.append((group, error)))
    for group in _groups(run, plan, over):
        early.ids.update(shard.id for shard in group)
        early.window.push(group)
        if len(early.ids) >= MOST_WAITING:
            break
    return early


def _plan_so_far(run: Run) -> Plan | None:
    """A plan that has no shards yet, with all settled that has to be before the first seal; None: it would not be sound, or something is wrong.

    What is wrong the plan itself says.
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
        plan.settle_places()
    except KitestringError:
        return None
    return plan.without_donors()


def _groups(run: Run, plan: Plan, over: threading.Event) -> Iterator[GroupOfShards]:
    """As the listing has them, until it is over."""
    aim, group, held = run.job.shards.rows, list[Shard](), 0
    for span in follow_spans(run.scratch / SPANS_FILE, over.is_set, pause=lambda: over.wait(PAUSE_SECONDS)):
        if span.files[0].root != plan.roots.now:
            return  # the whole plan knows what the root is
        group.append(plan.name(span))
        held += rows_of(group[-1], aim=aim)
        if held >= FULL_GROUP * aim or len(group) >= MOST_IN_GROUP:
            yield group
            group, held = [], 0


@dataclass(frozen=True, slots=True)
class _Either(Container[str]):
    one: Container[str]
    other: Container[str]

    def __contains__(self, shard: object) -> bool:
        return shard in self.one or shard in self.other
