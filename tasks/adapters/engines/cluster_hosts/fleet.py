"""An engine of many hosts, independent of the distributed engine that reaches them.

One thread of the flow's process drives all hosts: it opens them as they join, compares them with the flow's machine and with each other,
hands them groups (`tasks.domain.encoding.work_division`), polls each every second, and gives up those that do not answer. Only plain
values are sent, and no call is retried: the groups of a lost host go to others, marked as work that may have been done.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import pyarrow as pa

from tasks.adapters.engines.cluster_hosts.fleet_driver import FleetDriver
from tasks.adapters.engines.cluster_hosts.fleet_thread import CLOSED
from tasks.adapters.engines.cluster_hosts.host_answers import heard, pass_on, value_of
from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import LoadGroup, ShardGroup
from tasks.domain.encoding.fleet_progress import added, merged
from tasks.domain.encoding.host_messages import HostAnswer
from tasks.domain.encoding.work_division import TAKES_AT_ONCE, WorkDivision
from tasks.domain.encoding.work_items import AnyGroup, Call
from tasks.domain.errors import Transient
from tasks.domain.estimate.rates import Observation

RELEASE_SECONDS = 30.0  # for hosts to release their devices
FIRST_WIDTH = 8  # concurrent groups before any host is known
MOST_WIDTH = 200


def groups_at_once(hosts: int) -> int:
    """How many groups to run concurrently: those that hosts work on, and one more for each host to read ahead."""
    return min(MOST_WIDTH, max(FIRST_WIDTH, (TAKES_AT_ONCE + 1) * hosts))


class Fleet(FleetDriver):
    """An `Engine` of many hosts; for arguments and errors see `FleetDriver`."""

    # The interface of `Engine`

    @property
    def width(self) -> int:
        """See `groups_at_once`."""
        return groups_at_once(self._division.able)

    def facts(self) -> EncoderFacts:
        """See `Engine`: the facts of the first host that loaded the encoder; all other hosts must match them."""
        self.start()
        return self._facts.result()

    def expect(self, rows: int | None) -> None:
        """See `Engine`."""
        self._inbox.put(partial(self._division.expect, rows))

    def encode(self, group: ShardGroup) -> None:
        """See `Engine`."""
        self._have_done(self._division, group)

    def load(self, group: LoadGroup) -> None:
        """See `Engine`; `target.load_streams` limits the streams of all hosts together."""
        self._have_done(self._loading.division, group)

    def _have_done(self, division: WorkDivision, group: AnyGroup) -> None:
        ended: Future[Call] = Future()
        self._do(lambda: division.add(group, ended.set_result), ended)
        call = ended.result()
        if call.error is not None:
            raise call.error
        if call.failures:
            raise call.failures[0].error

    def measure(self, rows: pa.Table) -> Observation:
        """See `Engine`; measures one host."""
        self.facts()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        answered: Future[HostAnswer] = Future()
        self._do(partial(self._measure, sink.getvalue().to_pybytes(), answered), answered)
        return Observation.model_validate(value_of(answered.result()))

    def progress(self) -> EncodingProgress:
        """See `Engine`; lists the ranks of all hosts in the order in which the hosts joined."""
        seats = [*self._former, *self._seats.values()]
        named = [(seat.name, seat.progress) for seat in seats if seat.name]
        total, by_host = merged(named), dict[str, EncodingProgress]()
        for name, progress in named:
            by_host[name] = added(by_host[name], progress) if name in by_host else progress
        waits = "" if self._division.able else total.waits_for or self._waits_for()  # a host's own reason is more specific
        return total.model_copy(update={"waits_for": waits, "hosts": self._history.hosts(by_host.items(), self._division.records)})

    def release(self, *, wait: bool = False) -> None:
        """See `Engine`."""
        if self._thread is None:
            return
        released: Future[None] = Future()
        self._do(partial(self._release, wait, released), released)
        if wait:
            with suppress(TimeoutError):  # a host that is lost meanwhile has released its devices, too
                released.result(timeout=RELEASE_SECONDS)

    def close(self) -> None:
        """See `Engine`."""
        with self._lock:
            self._over, thread = True, self._thread
        self._inbox.put(lambda: None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if thread is None and self._broken is None:
            self._break(Transient(CLOSED))

    def _measure(self, rows: bytes, answered: Future[HostAnswer]) -> None:
        seat = next((seat for seat in self._seats.values() if seat.state == "ready"), None)
        if seat is None:
            answered.set_exception(Transient("the host that was measuring is lost"))
            return
        seat.link.call("measure", rows).add_done_callback(partial(pass_on, answered))

    def _release(self, wait: bool, released: Future[None]) -> None:
        """End the hosts, since a cluster counts their devices as taken while they exist; the next group starts them again."""
        self._resting = self._idle
        if self._division.idle and not self._idle:  # hosts that still load shards stay, but release their devices
            for seat in self._seats.values():
                if seat.state == "ready":
                    self._call(seat, "release", wait, seat.seen, then=heard)
        left = [seat for seat in self._seats.values() if seat.state == "ready" and self._resting]

        def gone(seat: HostSeat, _answer: HostAnswer) -> None:
            if seat in left:
                left.remove(seat)
            self._history.note(seat.name, "released")
            self._end(seat, "new")
            if not left and not released.done():
                released.set_result(None)

        for seat in list(left):
            self._division.leave(seat.name)
            self._loading.division.leave(seat.name)
            self._call(seat, "release", wait, seat.seen, then=gone)
        if not left:
            released.set_result(None)

    def _waits_for(self) -> str:
        if self._thread is None or self._division.able or (self._division.idle and self._facts.done()):
            return ""
        return "a host of the cluster that can encode"
