"""The thread that drives a fleet: opens hosts, hands them groups, and gives up those that are gone or do not answer."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import count

from tasks.adapters.engines.cluster_hosts.cluster import Cluster
from tasks.adapters.engines.cluster_hosts.fleet_loading import FleetLoading
from tasks.adapters.engines.cluster_hosts.fleet_thread import CLOSED, FleetThread
from tasks.adapters.engines.cluster_hosts.host_answers import (
    end_take,
    facts_difference,
    heard,
    in_a_line,
    load_refusal,
    made_by,
    value_of,
)
from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat, SeatState, request_share, seconds_between_looks
from tasks.adapters.engines.cluster_hosts.recalls import Recalls
from tasks.adapters.engines.cluster_hosts.settling import may_settle, spec_with
from tasks.adapters.engines.remote_host import SILENCE_SECONDS, own_identity
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_events import DocumentMoved, EncodingEvent, ShardFailed, ShardLoaded, ShardReused, ShardSealed, Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.encoding.host_history import HostHistory
from tasks.domain.encoding.host_messages import HostAnswer, HostIdentity, HostReport
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Take
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.shards.task_groups import rows_of

IDLE_SECONDS = 0.5  # longest wait of the thread for the next message
LOOK_SECONDS = 2.0  # between two listings of the cluster's hosts
RETRY_SECONDS = 2.0  # base of the exponential backoff before a lost host is tried again
MOST_LOSSES = 4  # in a row, after which a host that never became ready is left out
log = logging.getLogger("kitestring.fleet")


class FleetDriver(FleetThread):
    """The hosts of a fleet (`tasks.adapters.engines.cluster_hosts.fleet.Fleet`).

    Args:
        connect: joins the cluster; called when hosts are first needed.
        spec: the run.
        tell: receives every event, in the fleet's thread.
        silence_seconds: time without an answer after which a host is given up.

    Raises:
        BadInput: from the first call that needs a host: the cluster cannot be reached, or none of its hosts can do the work.
    """

    def __init__(self, connect: Callable[[], Cluster], spec: EncodingSpec, *, tell: Tell, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._connect, self._spec, self._tell, self._silence_seconds = connect, spec, tell, silence_seconds
        super().__init__()
        self._resting = False
        self._seats: dict[int, HostSeat] = {}  # by the link's identity
        self._former: list[HostSeat] = []  # their machines have left the cluster
        self._facts: Future[EncoderFacts] = Future()
        self._settled = spec.pinned.facts if spec.pinned else None
        self._cluster: Cluster | None = None
        self._looked = 0.0
        self._left_out: dict[str, str] = {}
        self._history = HostHistory(time.monotonic)
        rows = partial(rows_of, aim=spec.job.shards.rows)
        self._division = WorkDivision(rows, refuse=tell, leave_out=self._bar)
        self._recalls = Recalls(self._division, time.monotonic)
        self._loading = FleetLoading(spec.job.target.load_streams, rows)

    def _drive(self) -> None:
        try:
            self._cluster = self._connect()
            while not self._over:
                self._step()
            self._break(Transient(CLOSED))
        except KitestringError as error:
            self._break(error)
        except Exception as error:
            log.exception("the fleet failed with an unexpected error")
            self._break(Permanent(f"{type(error).__name__}: {error}; please report this"))
        finally:
            self._end_hosts()
            with self._lock:
                self._over = True
            self._drain()

    def _step(self) -> None:
        with suppress(queue.Empty):
            self._inbox.get(timeout=IDLE_SECONDS if self._looked else 0)()
        while not self._inbox.empty():
            self._inbox.get()()
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._look(now)
        self._resting = self._resting and self._idle
        for seat in list(self._seats.values()):
            self._see_to(seat, now)
        for seat, take in self._recalls.due(self._all):
            log.info("host %s is asked to return a group that it has not begun: another host is idle", seat.name)
            assert isinstance(take.group, ShardGroup)
            self._call(seat, "recall", take.group.attempt, take.group.shards[0].id, seat.seen, then=heard)

    @property
    def _idle(self) -> bool:
        return self._division.idle and self._loading.division.idle

    def _break(self, error: KitestringError) -> None:
        self._broken = error
        if not self._facts.done():
            self._facts.set_exception(error)
        self._division.fail_all(error)
        self._loading.division.fail_all(error)

    def _end_hosts(self) -> None:
        """Ask each host to close, which ends its ranks; then end the processes of all, so also of those that did not answer."""
        closing = [seat.link.call("close") for seat in self._seats.values() if seat.state in {"loading", "ready"}]
        until = time.monotonic() + 5
        for each in closing:
            try:
                each.result(timeout=max(0.0, until - time.monotonic()))
            except Exception as error:  # noqa: BLE001 - its process is ended below
                log.debug("a host did not close: %s", error)
        if self._cluster is not None:
            self._cluster.close()

    # Hosts

    def _look(self, now: float) -> None:
        assert self._cluster is not None
        self._looked = now
        try:
            links = {id(link): link for link in self._cluster.hosts()}
        except Transient as error:
            log.warning("%s", error)
            return
        for key in [key for key in self._seats if key not in links]:
            self._lose(self._seats[key], "its machine is gone")
            self._former.append(self._seats.pop(key))
        for key, link in links.items():
            self._seats.setdefault(key, HostSeat(link))

    def _see_to(self, seat: HostSeat, now: float) -> None:
        """Do the next step for a host: open it, load its encoder, poll it, or hand it work."""
        if seat.state == "new" and now >= seat.not_before and not self._resting:
            seat.state = "opening"
            self._call(seat, "identify", then=self._identified)
        elif seat.state == "opened" and (self._settled is not None or may_settle(self._spec, self._all, now)):
            seat.state, seat.loading_since, seat.settles = "loading", now, self._settled is None
            self._history.note(seat.name, "loading")
            self._call(seat, "load", spec_with(self._spec, self._settled), seat.seen, then=self._loaded)
        if seat.state not in {"opened", "loading", "ready"}:  # `opened` is polled too: a host that is not called closes itself
            return
        if now - seat.heard > self._silence_seconds:
            self._lose(seat, f"no answer for {self._silence_seconds:.0f} s")
            return
        if not seat.asked and now - seat.asked_at > seconds_between_looks(len(self._seats), self._silence_seconds):
            seat.asked, seat.asked_at = True, now
            self._call(seat, "report", seat.seen, *self._loading.share(seat, self._all), self._requests(seat), then=self._reported)
        while seat.state == "ready" and (take := self._division.next_for(seat.name)) is not None:
            seat.takes.append(take)
            self._history.note(seat.name, "at work")
            ahead = self._division.ahead_of(seat.name)
            arguments = (take.group.model_dump_json(), seat.seen, ahead, self._requests(seat))
            self._call(seat, "encode", *arguments, then=partial(self._encoded, take))
        while seat.state == "ready" and (take := self._loading.next_for(seat, self._all)) is not None:
            seat.loads.append(take)
            self._history.note(seat.name, "at work")
            load_arguments = (take.group.model_dump_json(), seat.seen, *self._loading.share(seat, self._all))
            self._call(seat, "load_shards", *load_arguments, then=partial(self._loaded_shards, take))

    @property
    def _all(self) -> list[HostSeat]:
        return [*self._seats.values()]

    def _requests(self, seat: HostSeat) -> int | None:
        return request_share(self._spec.job.encoder.most_requests, seat, self._all)

    def _call(self, seat: HostSeat, method: str, *arguments: object, then: Callable[[HostSeat, HostAnswer], None]) -> None:
        """Call a host; the fleet's thread handles the answer, unless the host was given up in the meantime."""
        life = seat.life

        def handle(future: Future[str]) -> None:
            if seat.life != life or self._over:
                return
            if error := future.exception():
                self._lose(seat, in_a_line(error))
                return
            answer = HostAnswer.model_validate_json(future.result())
            seat.heard = time.monotonic()
            self._hear(seat, answer.report)
            if answer.report.closed:
                self._lose(seat, "it closed itself, since it received no calls")
            else:
                then(seat, answer)

        try:
            seat.link.call(method, *arguments).add_done_callback(lambda future: self._inbox.put(partial(handle, future)))
        except Exception as error:  # noqa: BLE001 - same as an error from the future
            self._lose(seat, in_a_line(error))

    def _identified(self, seat: HostSeat, answer: HostAnswer) -> None:
        if answer.refusal is not None:
            self._leave_out(seat, answer.refusal.text)
            return
        identity = HostIdentity.model_validate(answer.value)
        self._name(seat, identity.host)
        if difference := identity.difference(own_identity()):
            self._leave_out(seat, f"{difference}: install the same there")
        else:
            seat.state = "opened"

    def _name(self, seat: HostSeat, host: str) -> None:
        if not seat.name:
            taken = {other.name for other in self._seats.values()}
            names = (host if number == 1 else f"{host}-{number}" for number in count(1))
            seat.name = next(name for name in names if name not in taken)

    def _loaded(self, seat: HostSeat, answer: HostAnswer) -> None:
        if answer.refusal is not None:
            if answer.refusal.leaf == "transient":
                self._lose(seat, answer.refusal.text)
            else:
                self._leave_out(seat, load_refusal(answer.refusal.text, self._settled))
            return
        facts = EncoderFacts.model_validate(value_of(answer)["facts"])
        if self._settled is not None and (difference := facts_difference(facts, self._settled)):
            if seat.settles:  # another host settled the facts first; this one may be able to load the same
                self._end(seat, "new")
            else:
                self._leave_out(seat, difference)
            return
        self._settled = self._settled or facts
        if not self._facts.done():
            self._facts.set_result(facts)
        seat.state, seat.losses = "ready", 0
        self._division.join(seat.name)
        self._loading.division.join(seat.name)
        self._history.note(seat.name, "at work")
        log.info("host %s encodes", seat.name)

    def _leave_out(self, seat: HostSeat, why: str) -> None:
        self._division.bar(seat.name or f"number {len(self._seats)}", why)
        if seat.state != "barred":  # `bar` ends seats by name, and this one may have none yet
            self._end(seat, "barred")
            self._fail_if_no_host_is_left()

    def _bar(self, host: str, why: str) -> None:
        """The division's callback: a host gets no more work."""
        log.warning("host %s is left out: %s", host, why)
        self._history.note(host, "left out", why)
        self._left_out[host] = why
        self._loading.division.lose(host, why)
        for seat in self._seats.values():
            if seat.name == host and seat.state != "barred":
                self._end(seat, "barred")
        self._fail_if_no_host_is_left()

    def _fail_if_no_host_is_left(self) -> None:
        if self._seats and all(seat.state == "barred" for seat in self._seats.values()) and self._left_out:
            host, why = next(iter(self._left_out.items()))
            raise BadInput(f"no host of the cluster is able to encode: {len(self._left_out)} were left out; the first: {host}: {why}")

    def _lose(self, seat: HostSeat, why: str) -> None:
        if seat.state == "barred":
            return
        log.log(logging.INFO if seat.leaving else logging.WARNING, "host %s is lost: %s", seat.name or "without a name", why)
        self._history.note(seat.name, "lost", why)
        self._end(seat, "new")
        seat.losses += 1
        seat.not_before = time.monotonic() + RETRY_SECONDS * 2 ** min(seat.losses, 5)
        self._division.lose(seat.name, why)
        self._loading.division.lose(seat.name, why)
        if seat.losses >= MOST_LOSSES:
            self._leave_out(seat, f"it was lost {seat.losses} times before it could encode: {why}")

    def _end(self, seat: HostSeat, state: SeatState) -> None:
        seat.end(state)
        self._loading.end(seat)

    # Answers

    def _hear(self, seat: HostSeat, report: HostReport) -> None:
        for line in report.lines:
            log.log(line.level, "host %s: %s", seat.name, line.text)
        seat.take_in(report.progress)
        self._loading.hear(seat, report.loading)
        if report.leaving and not seat.leaving:
            seat.leaving = True
            self._history.note(seat.name, "leaving")
            log.warning("host %s is preempted and returns the work that it has not begun", seat.name)
            self._division.leave(seat.name)
            self._loading.division.leave(seat.name)
        for number, event in enumerate(report.events, report.first):
            if number >= seat.seen:
                seat.seen = number + 1
                self._handle(seat, event)

    def _handle(self, seat: HostSeat, event: EncodingEvent) -> None:
        if isinstance(event, DocumentMoved):
            self._tell(event)
            return
        shard = event.seal.shard if isinstance(event, ShardSealed | ShardReused) else event.shard
        loads = isinstance(event, ShardLoaded) or (isinstance(event, ShardFailed) and event.at == "load")
        division = self._loading.division if loads else self._division
        take = next((take for take in (seat.loads if loads else seat.takes) if shard in take.units), None)
        if take is None:
            log.debug("host %s reports shard %s, which it was not given", seat.name, shard)
        elif isinstance(event, ShardFailed):
            division.refused(take, event)
        elif isinstance(event, ShardLoaded):
            self._division.records[seat.name].loaded += event.entry.rows
            self._tell(event)
            division.done(take, shard)
        else:
            self._tell(self._with_own_rows(take, event))
            self._division.done(take, shard)

    def _with_own_rows(self, take: Take, event: EncodingEvent) -> EncodingEvent:
        """Count rows that a lost host encoded in this run as this run's, not as reused or adopted."""
        if not isinstance(event, ShardSealed | ShardReused):
            return event
        assert isinstance(take.group, ShardGroup)
        assert isinstance(take.call.group, ShardGroup)
        if event.seal.attempt != take.group.attempt and event.seal.run == self._spec.run:
            self._division.records[take.host].doubled += isinstance(event, ShardSealed)
        if not take.again or event.seal.run != self._spec.run:
            return event
        ours = [part for part in event.seal.parts if made_by(part.key, take.call.group.attempt)]
        return ShardSealed(seal=event.seal, encoded=sum(part.rows for part in ours), adopted=len(event.seal.parts) - len(ours))

    def _reported(self, seat: HostSeat, _answer: HostAnswer) -> None:
        seat.asked = False

    def _encoded(self, take: Take, seat: HostSeat, answer: HostAnswer) -> None:
        if take in seat.takes:
            seat.takes.remove(take)
        end_take(self._division, take, answer)

    def _loaded_shards(self, take: Take, seat: HostSeat, answer: HostAnswer) -> None:
        if take in seat.loads:
            seat.loads.remove(take)
        end_take(self._loading.division, take, answer)
