"""How many streams load at a time, where, and how fast: for all hosts together."""

from __future__ import annotations

import pytest

from tasks.adapters.engines.cluster_hosts.fleet_loading import MOST_LOADED, FleetLoading
from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_spec import LoadGroup
from tasks.domain.encoding.work_items import Call, Take
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.rate_limit import LoadCounts, Throttle

IDENTITY = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="float32")
RECORD = EncoderRecord(identity=IDENTITY, facts=EncoderFacts(dim=4, max_seq_length=None, precision="float32", device="cpu"))
SPEC = CollectionSpec(
    name="c", alias="a", dim=4, metric="COSINE", store_text=True, id_length=9, fields=(), fingerprint=IDENTITY.fingerprint, model="m"
)
ROWS = 1_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Hosts that load, by an unseen server."""

    def __init__(self, *hosts: str, streams: int) -> None:
        self.clock, self.ended = Clock(), list[Call]()
        self.loading = FleetLoading(streams, lambda _: ROWS, clock=self.clock)
        self.seats = [HostSeat(link=None, state="ready", name=host) for host in hosts]  # type: ignore[arg-type]
        self.counts = {host: LoadCounts() for host in hosts}
        for host in hosts:
            self.loading.division.join(host)

    def add(self, shards: int) -> None:
        files = [FileVersion(path=f"/rows/{n}", name=f"{n}", size=1, version="1") for n in range(shards)]
        every = tuple(Shard(id=f"{n:032x}", span=Span(files=(file,), extent=Whole(), rows=ROWS)) for n, file in enumerate(files))
        self.loading.division.add(LoadGroup(shards=every, record=RECORD, collection=SPEC, identity="i", ledger="l"), self.ended.append)

    def hand_out(self) -> None:
        for seat in self.seats:
            while (take := self.loading.next_for(seat, self.seats)) is not None:
                seat.loads.append(take)

    def end(self, seat: HostSeat, take: Take) -> None:
        seat.loads.remove(take)
        for shard in list(take.units):
            self.loading.division.done(take, shard)
        self.loading.division.answered(take)

    def hear(self, seat: HostSeat, *, rows: int = 0, refusals: int = 0) -> None:
        now = self.counts[seat.name]
        now = LoadCounts(rows=now.rows + rows, batches=now.batches + bool(rows), refusals=now.refusals + refusals)
        self.counts[seat.name] = now
        self.loading.hear(seat, now)

    def shares(self) -> list[float | None]:
        return [self.loading.share(seat, self.seats)[0] for seat in self.seats]


@pytest.mark.parametrize(("streams", "each"), [(3, [1, 1, 1]), (6, [2, 2, 2]), (2, [1, 1, 0])])
def test_no_more_streams_than_allowed_are_under_way_and_all_hosts_have_their_part(streams: int, each: list[int]) -> None:
    bench = Bench("a", "b", "c", streams=streams)
    bench.add(200)
    most = 0
    while not bench.ended:
        bench.hand_out()
        loads = [len(seat.loads) for seat in bench.seats]
        most = max(most, sum(loads))
        assert loads == each or not bench.loading.division.waiting
        assert all(len(take.units) <= MOST_LOADED for seat in bench.seats for take in seat.loads)
        seat = next(seat for seat in bench.seats if seat.loads)
        bench.end(seat, seat.loads[0])
    assert most == streams


def test_a_refusal_at_one_host_slows_all_of_them_by_their_share_of_the_streams() -> None:
    bench = Bench("a", "b", streams=3)
    bench.add(100)
    bench.hand_out()
    assert [len(seat.loads) for seat in bench.seats] == [2, 1]
    assert bench.shares() == [None, None]
    bench.clock.now += 10
    for seat in bench.seats:
        bench.hear(seat, rows=30_000)
    bench.hear(bench.seats[1], refusals=3)
    bench.hear(bench.seats[0], refusals=1)  # of the same moment
    assert bench.loading.rate == 3_000
    assert bench.shares() == [2_000, 1_000]
    bench.clock.now += 10
    bench.hear(bench.seats[0], rows=2_000)
    assert bench.loading.rate
    assert bench.loading.rate > 3_000
    bench.hear(bench.seats[0], refusals=1)
    assert bench.loading.rate < 3_000


def test_a_host_that_was_refused_since_the_flow_heard_of_it_is_not_sped_up_again() -> None:
    own = Throttle(clock=Clock())
    own.taken(10_000)
    own.refused()
    slow = own.rate
    own.share(9_000.0, heard=0)
    assert own.rate == slow
    own.share(900.0, heard=1)
    assert own.rate == 900.0
    own.share(None, heard=1)
    assert own.rate == 900.0


def test_what_a_lost_host_was_loading_goes_to_another_and_one_that_cannot_load_is_given_no_fresh_work() -> None:
    bench = Bench("a", "b", streams=2)
    bench.add(2 * MOST_LOADED)
    bench.hand_out()
    lost, other = bench.seats
    (take,) = lost.loads
    bench.loading.division.lose("a", "gone")
    lost.loads.clear()
    while not bench.ended:
        bench.hand_out()
        bench.end(other, other.loads[0])
    assert not lost.loads
    assert bench.ended[0].failures == []
    assert bench.loading.division.records["a"].left_out == "", "it may encode, and load when it is back"
    assert take.units
