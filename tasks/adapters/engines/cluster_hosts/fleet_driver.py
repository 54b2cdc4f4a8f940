"""What drives a fleet: the one thread that opens its hosts, hands them groups, and gives up those that are silent or gone."""

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

IDLE_SECONDS = 0.5  # of the thread when nothing happens
LOOK_SECONDS = 2.0  # between two looks for hosts that have come
RETRY_SECONDS = 2.0  # until a host that was lost is tried again; twice as long each time
MOST_LOSSES = 4  # of a host that has not been ready between
log = logging.getLogger("kitestring.fleet")


class FleetDriver(FleetThread):
    """The hosts of a fleet (`tasks.adapters.engines.cluster_hosts.fleet.Fleet`).

    Args:
        connect: joins the cluster; called at the first need.
        spec: the run.
        tell: told of every event, by the fleet's thread.
        silence_seconds: without an answer, after which a host is given up.

    Raises:
        BadInput: by the first call that needs a host: the cluster cannot be reached, or no host of it can do the work.
    """

    def __init__(self, connect: Callable[[], Cluster], spec: EncodingSpec, *, tell: Tell, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._connect, self._spec, self._tell, self._silence_seconds = connect, spec, tell, silence_seconds
        super().__init__()
        self._resting = False
        self._seats: dict[int, HostSeat] = {}  # by the link's identity
        self._former: list[HostSeat] = []  # whose machines are gone
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
            log.info("host %s is asked for what it has not begun: another has nothing to do", seat.name)
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
        """Each is asked to close, which ends its ranks, and what does not answer is ended with its process."""
        closing = [seat.link.call("close") for seat in self._seats.values() if seat.state in {"loading", "ready"}]
        until = time.monotonic() + 5
        for each in closing:
            try:
                each.result(timeout=max(0.0, until - time.monotonic()))
            except Exception as error:  # noqa: BLE001 - it is ended below
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
        """Whatever is next for a host."""
        if seat.state == "new" and now >= seat.not_before and not self._resting:
            seat.state = "opening"
            self._call(seat, "identify", then=self._identified)
        elif seat.state == "opened" and (self._settled is not None or may_settle(self._spec, self._all, now)):
            seat.state, seat.loading_since, seat.settles = "loading", now, self._settled is None
            self._history.note(seat.name, "loading")
            self._call(seat, "load", spec_with(self._spec, self._settled), seat.seen, then=self._loaded)
        if seat.state not in {"opened", "loading", "ready"}:  # one that waits for the first to load would close itself, uncalled
            return
        if now - seat.heard > self._silence_seconds:
            self._lose(seat, f"it has not answered for {self._silence_seconds:.0f} s")
            return
        if not seat.asked and now - seat.asked_at > seconds_between_looks(len(self._seats), self._silence_seconds):
            seat.asked, seat.asked_at = True, now
            self._call(seat, "report", seat.seen, *self._loading.share(seat, self._all), self._requests(seat), then=self._reported)
        while seat.state == "ready" and (take := self._division.next_for(seat.name)) is not None:
            seat.takes.append(take)
            self._history.note(seat.name, "at work")
            ahead = self._division.ahead_of(seat.name)
            given = (take.group.model_dump_json(), seat.seen, ahead, self._requests(seat))
            self._call(seat, "encode", *given, then=partial(self._encoded, take))
        while seat.state == "ready" and (take := self._loading.next_for(seat, self._all)) is not None:
            seat.loads.append(take)
            self._history.note(seat.name, "at work")
            told = (take.group.model_dump_json(), seat.seen, *self._loading.share(seat, self._all))
            self._call(seat, "load_shards", *told, then=partial(self._loaded_shards, take))

    @property
    def _all(self) -> list[HostSeat]:
        return [*self._seats.values()]

    def _requests(self, seat: HostSeat) -> int | None:
        return request_share(self._spec.job.encoder.most_requests, seat, self._all)

    def _call(self, seat: HostSeat, method: str, *arguments: object, then: Callable[[HostSeat, HostAnswer], None]) -> None:
        """Call a host; what it answers is taken in by this thread, unless the host was given up before."""
        life = seat.life

        def take_in(future: Future[str]) -> None:
            if seat.life != life or self._over:
                return
            if error := future.exception():
                self._lose(seat, in_a_line(error))
                return
            answer = HostAnswer.model_validate_json(future.result())
            seat.heard = time.monotonic()
            self._hear(seat, answer.report)
            if answer.report.closed:
                self._lose(seat, "it has closed itself, since nobody called")
            else:
                then(seat, answer)

        try:
            seat.link.call(method, *arguments).add_done_callback(lambda future: self._inbox.put(partial(take_in, future)))
        except Exception as error:  # noqa: BLE001 - as where its answer is one
            self._lose(seat, in_a_line(error))

    def _identified(self, seat: HostSeat, answer: HostAnswer) -> None:
        if answer.refusal is not None:
            self._leave_out(seat, answer.refusal.text)
            return
        found = HostIdentity.model_validate(answer.value)
        self._name(seat, found.host)
        if difference := found.difference(own_identity()):
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
            if seat.settles:  # another one was faster: what that has settled, this one may be able to do as well
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
        if seat.state != "barred":  # one without a name
            self._end(seat, "barred")
            self._give_up_if_nobody_is_left()

    def _bar(self, host: str, why: str) -> None:
        """The division gives a host no more work."""
        log.warning("host %s is left out: %s", host, why)
        self._history.note(host, "left out", why)
        self._left_out[host] = why
        self._loading.division.lose(host, why)
        for seat in self._seats.values():
            if seat.name == host and seat.state != "barred":
                self._end(seat, "barred")
        self._give_up_if_nobody_is_left()

    def _give_up_if_nobody_is_left(self) -> None:
        if self._seats and all(seat.state == "barred" for seat in self._seats.values()) and self._left_out:
            host, why = next(iter(self._left_out.items()))
            raise BadInput(f"no host of the cluster is left to encode: {len(self._left_out)} were left out; the first: {host}: {why}")

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
            log.warning("host %s will be taken away, and gives back what it has not begun", seat.name)
            self._division.leave(seat.name)
            self._loading.division.leave(seat.name)
        for number, event in enumerate(report.events, report.first):
            if number >= seat.seen:
                seat.seen = number + 1
                self._take_in(seat, event)

    def _take_in(self, seat: HostSeat, event: EncodingEvent) -> None:
        if isinstance(event, DocumentMoved):
            self._tell(event)
            return
        shard = event.seal.shard if isinstance(event, ShardSealed | ShardReused) else event.shard
        loads = isinstance(event, ShardLoaded) or (isinstance(event, ShardFailed) and event.at == "load")
        division = self._loading.division if loads else self._division
        take = next((take for take in (seat.loads if loads else seat.takes) if shard in take.units), None)
        if take is None:
            log.debug("host %s tells of shard %s, which it was not given", seat.name, shard)
        elif isinstance(event, ShardFailed):
            division.refused(take, event)
        elif isinstance(event, ShardLoaded):
            self._division.records[seat.name].loaded += event.entry.rows
            self._tell(event)
            division.done(take, shard)
        else:
            self._tell(self._as_it_was(take, event))
            self._division.done(take, shard)

    def _as_it_was(self, take: Take, event: EncodingEvent) -> EncodingEvent:
        """A shard that a lost host had been given: rows that it has encoded in this run are this run's, too."""
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
