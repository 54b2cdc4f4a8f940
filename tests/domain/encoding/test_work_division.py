"""Groups of shards divided among hosts that are lost, fall silent, fail and come back: every shard is done, and none is done twice for no reason."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from itertools import count

import pytest

from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.encoding.work_division import MOST_SHARDS, TAKES_AT_ONCE, WorkDivision
from tasks.domain.encoding.work_items import Call, Take
from tasks.domain.errors import Transient
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

ROWS = 100
IDENTITY = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="float32")
FACTS = EncoderFacts(dim=4, max_seq_length=None, precision="float32", device="cpu")
RECORD = EncoderRecord(identity=IDENTITY, facts=FACTS)


def shards(first: int, stop: int) -> tuple[Shard, ...]:
    files = [FileVersion(path=f"/rows/{n}", name=f"{n}", size=1, version="1") for n in range(first, stop)]
    return tuple(Shard(id=f"{n:032x}", span=Span(files=(file,), extent=Whole(), rows=ROWS)) for n, file in enumerate(files, first))


def group(first: int, stop: int) -> ShardGroup:
    return ShardGroup(shards=shards(first, stop), record=RECORD, attempt="run")


def failure(take: Take, shard: str) -> ShardFailed:
    return ShardFailed(shard=shard, name=shard, leaf="permanent", text=f"{take.host} cannot read it")


class Bench:
    """A division, and what it tells."""

    def __init__(self, *hosts: str) -> None:
        self.failed: list[ShardFailed] = []
        self.left_out: dict[str, str] = {}
        self.ended: list[Call] = []
        self.division = WorkDivision(lambda _: ROWS, refuse=self.failed.append, leave_out=self.left_out.__setitem__)
        for host in hosts:
            self.division.join(host)

    def add(self, first: int, stop: int) -> None:
        self.division.add(group(first, stop), self.ended.append)

    def take(self, host: str) -> Take:
        take = self.division.next_for(host)
        assert take
        return take

    def do(self, take: Take) -> None:
        for shard in list(take.units):
            self.division.done(take, shard)
        self.division.answered(take)

    def refuse(self, take: Take) -> None:
        for shard in list(take.units):
            self.division.refused(take, failure(take, shard))
        self.division.answered(take)


def test_takes_shrink_with_what_is_left_and_a_host_has_a_window_of_them() -> None:
    bench = Bench("a", "b")
    bench.division.expect(1_000 * ROWS)
    bench.add(0, 200)
    sizes = [len(bench.take(host).units) for host in ("a", "a", "b", "b")]
    assert sizes == [MOST_SHARDS] * 4
    assert bench.division.next_for("a") is None, f"it has {TAKES_AT_ONCE}"
    last = Bench("a", "b")
    last.add(0, 16)
    assert [len(last.take(host).units) for host in ("a", "b", "a", "b")] == [2, 1, 1, 1]


def test_a_host_may_expect_what_it_has_in_hand_and_its_share_of_the_rest() -> None:
    bench = Bench("a", "b")
    bench.add(0, 8)
    assert bench.division.ahead_of("a") is None, "nobody knows what is to come"
    bench.division.expect(8 * ROWS)
    held = len(bench.take("a").units)
    assert bench.division.ahead_of("a") == held * ROWS + (8 - held) * ROWS // 2


def test_where_nothing_is_left_no_call_is_looked_at_for_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand hosts ask many times a second, and hundreds of calls are under way."""
    bench = Bench("a", "b")
    bench.add(0, 1)
    bench.add(1, 2)
    for _ in range(2):
        bench.take("a")
    monkeypatch.setattr(WorkDivision, "_choose", lambda *_, **__: pytest.fail("looked at a call"))
    assert bench.division.next_for("b") is None
    assert not bench.division.waiting


def test_a_lost_hosts_shards_go_first_to_another_under_an_attempt_of_their_own() -> None:
    bench = Bench("a", "b")
    bench.add(0, 8)
    first = bench.take("a")
    done, lost = first.group.shards[0].id, {shard.id for shard in first.group.shards}
    bench.division.done(first, done)
    bench.division.lose("a", "kill -9")
    again = [bench.take("b") for _ in range(TAKES_AT_ONCE)]
    assert {shard for take in again for shard in take.units} >= lost - {done}
    assert all(take.group.attempt.startswith("run-") == (bool(lost & {*take.units})) for take in again)
    bench.division.done(first, done)  # what it says afterwards changes nothing
    bench.division.answered(first)
    assert bench.division.records["a"].given_back == (1 if lost - {done} else 0)


def test_a_shard_has_failed_when_two_hosts_say_so_and_both_go_on() -> None:
    bench = Bench("a", "b")
    bench.add(0, 1)
    bench.refuse(bench.take("a"))
    assert not bench.failed
    assert bench.division.next_for("a") is None, "it has refused it"
    bench.refuse(bench.take("b"))
    assert [failed.text for failed in bench.failed] == ["a cannot read it"]
    (call,) = bench.ended
    assert call.failures == bench.failed
    assert not bench.left_out


def test_the_only_host_is_believed_at_once() -> None:
    bench = Bench("a")
    bench.add(0, 3)
    while take := bench.division.next_for("a"):
        bench.refuse(take)
    assert len(bench.failed) == 3
    assert bench.ended
    assert not bench.left_out


def test_a_host_that_fails_where_others_do_not_gets_little_and_is_left_out() -> None:
    bench = Bench("good", "bad")
    bench.add(0, 40)
    bad = 0
    while take := bench.division.next_for("bad"):
        bad += len(take.units)
        bench.refuse(take)
    assert bad <= 5 + 4, "a window at most"
    while not bench.ended:
        bench.do(bench.take("good"))
    assert list(bench.left_out) == ["bad"]
    assert "bad cannot read it" in bench.left_out["bad"]
    assert not bench.failed


def test_a_fault_that_may_pass_ends_the_call_and_only_who_has_it_alone_is_left_out() -> None:
    bench = Bench("a", "b")
    bench.add(0, 1)
    bench.add(1, 2)
    bench.add(2, 3)
    for take in (bench.take("a"), bench.take("a")):
        bench.division.answered(take, Transient("no store"))
    assert [str(call.error) for call in bench.ended] == ["no store"] * 2
    assert bench.division.next_for("a") is None, "it has failed twice, and another has not"
    bench.do(bench.take("b"))
    assert list(bench.left_out) == ["a"]
    both = Bench("a", "b")
    for number in range(4):
        both.add(number, number + 1)
    for take in [both.take(host) for host in ("a", "a", "b", "b")]:
        both.division.answered(take, Transient("no store"))
    both.add(4, 6)
    both.take("a")
    both.do(both.take("b"))
    assert not both.left_out, "all had it"


def test_a_shard_that_hosts_are_lost_with_is_given_up() -> None:
    bench = Bench("a", "b", "c", "d")
    bench.add(0, 1)
    for host in "abc":
        bench.take(host)
        bench.division.lose(host, "out of memory")
    (call,) = bench.ended
    assert isinstance(call.error, Transient)
    assert "3 hosts were lost while working on 0" in str(call.error)


def test_a_host_that_leaves_gives_back_what_it_has_not_done() -> None:
    bench = Bench("a", "b")
    bench.add(0, 16)
    take = bench.take("a")
    bench.division.leave("a")
    assert bench.division.next_for("a") is None
    bench.division.answered(take, Transient("leaving"), given_back=True)
    done = Counter[str]()
    while not bench.ended:
        other = bench.take("b")
        done.update(other.units.keys())
        bench.do(other)
    assert len(done) == 16
    assert not bench.left_out


def test_a_host_with_nothing_gets_what_another_has_in_its_window_and_gives_back_once() -> None:
    bench = Bench("a", "b")
    bench.add(0, 2)
    first, second = bench.take("a"), bench.take("a")
    assert bench.division.next_for("b") is None
    assert bench.division.spare() == [second]
    assert bench.division.may_have("b", second)
    assert not bench.division.may_have("a", second)
    bench.division.recall(second)
    bench.division.answered(second, Transient("given back"), given_back=True)
    assert bench.division.next_for("a") is None, "it was asked for it"
    again = bench.take("b")
    assert (again.units.keys(), again.group.attempt == second.group.attempt) == (second.units.keys(), False)
    assert not bench.division.spare()
    assert bench.division.records["a"].given_back == 1
    bench.do(first)
    bench.do(again)
    assert not bench.ended[0].failures


def test_what_was_asked_back_is_its_hosts_own_again_where_nobody_else_is_left() -> None:
    bench = Bench("a", "b")
    bench.add(0, 2)
    first, second = bench.take("a"), bench.take("a")
    bench.division.recall(second)
    bench.division.answered(second, Transient("given back"), given_back=True)
    bench.division.lose("b", "power")
    assert bench.division.next_for("a") is None
    bench.do(first)
    bench.do(bench.take("a"))
    assert bench.ended


class Simulation:
    """Hosts of unlike speed that are lost and come back, cannot read some shards or any, and answer too late."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.hosts = {f"h{n}": self.chance.choice([1, 1, 1, 0.3]) for n in range(self.chance.randint(2, 6))}
        self.poisoned = {shard.id for shard in shards(0, 120) if self.chance.random() < 0.03}
        self.bad = self.chance.choice([None, "h0"])
        self.bench, self.clock, self.order = Bench(*self.hosts), 0.0, count()
        self.events: list[tuple[float, int, str, str, Take | None]] = []
        self.sealed, self.attempts = Counter[str](), set[tuple[str, str]]()

    def later(self, seconds: float, what: str, host: str, take: Take | None = None) -> None:
        heapq.heappush(self.events, (self.clock + seconds, next(self.order), what, host, take))

    def run(self) -> None:
        self.bench.division.expect(120 * ROWS)
        for first in range(0, 120, 20):
            self.bench.add(first, first + 20)
        for host in sorted(self.hosts.keys() - {"h1"}):  # where nobody else is left to ask, a host is believed
            self.later(self.chance.uniform(5, 200), "lose", host)
        while not self.bench.division.idle:
            self.hand_out()
            self.clock, _, what, host, take = heapq.heappop(self.events)
            getattr(self, what)(host, take)

    def hand_out(self) -> None:
        for host, speed in self.hosts.items():
            while take := self.bench.division.next_for(host):
                written = {(shard, take.group.attempt) for shard in take.units}
                assert not written & self.attempts, "no two hosts write under one attempt"
                self.attempts |= written
                self.later(len(take.units) / speed, "answer", host, take)
        spare = self.bench.division.spare()
        for host in self.hosts:
            if spare and self.bench.division.may_have(host, spare[0]):
                self.bench.division.recall(take := spare.pop(0))
                self.later(self.chance.uniform(0, 2), "give_back", take.host, take)

    def give_back(self, _host: str, take: Take) -> None:
        """Unless it is done by now."""
        self.bench.division.answered(take, Transient("asked back"), given_back=True)

    def lose(self, host: str, _: object) -> None:
        self.bench.division.lose(host, "silent")
        self.later(self.chance.uniform(1, 30), "join", host)

    def join(self, host: str, _: object) -> None:
        self.bench.division.join(host)

    def answer(self, host: str, take: Take) -> None:
        in_time = take in self.bench.division._members[host].takes
        for shard in list(take.units):
            if shard in self.poisoned or host == self.bad:
                self.bench.division.refused(take, failure(take, shard))
            else:
                self.bench.division.done(take, shard)
                self.sealed[shard] += in_time
        self.bench.division.answered(take)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_hosts_every_shard_is_done_once_or_told_of(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    bench, poisoned = simulation.bench, simulation.poisoned
    assert {failed.shard for failed in bench.failed} == poisoned
    assert {shard: times for shard, times in simulation.sealed.items() if times} == {
        shard.id: 1 for shard in shards(0, 120) if shard.id not in poisoned
    }
    assert sum(len(call.failures) for call in bench.ended) == len(poisoned)
    assert not any(call.error for call in bench.ended)
    assert set(bench.left_out) <= {simulation.bad}
