"""The coordinator against ranks played by threads over real sockets: who gets which piece, and what a death costs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch
from tasks.adapters.processes.supervisor import MOST_FRUITLESS
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.protocol import (
    Assignment,
    Done,
    Fault,
    Heartbeat,
    Hello,
    NoMoreWork,
    Piece,
    RequestPiece,
    Storing,
    ToRank,
    Welcome,
)
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.domain.shards.seal import EncodeStats, Part

FACTS = EncoderFacts(dim=8, max_seq_length=64, precision="float32", device="cpu")


class PlayedRank:
    """A rank's side of the conversation. Leaving `play` without a word is a rank's death."""

    def __init__(self, path: str, rank: int) -> None:
        self.rank = rank
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def say(self, message: Hello | RequestPiece | Heartbeat | Storing | Done | Fault) -> None:
        self.socket.sendall(message.model_dump_json().encode() + b"\n")

    def hear(self) -> Piece | NoMoreWork | Welcome | None:
        line = self.lines.readline()
        return ToRank.validate_json(line) if line else None

    def greet(self) -> None:
        self.say(Hello(rank=self.rank, pid=0, facts=FACTS))
        assert isinstance(self.hear(), Welcome)

    def take(self) -> Piece | NoMoreWork | None:
        self.say(RequestPiece())
        piece = self.hear()
        assert not isinstance(piece, Welcome)
        return piece

    def finish(self, piece: Piece) -> None:
        self.say(Done(part=part_of(piece)))

    def die(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.lines.close()
        self.socket.close()


def part_of(piece: Piece) -> Part:
    rows = piece.stop - piece.first - len(piece.barred)
    return Part(key=piece.key, first=piece.first, stop=piece.stop, rows=rows, bytes=1, sha256="", stats=EncodeStats(encode_seconds=0.1))


Play = Callable[[PlayedRank], None]


class Plays:
    """Launches of which the n-th rank to start plays the n-th play; later ones repeat the last."""

    def __init__(self, *plays: Play, ranks: int = 1) -> None:
        self.plays, self.ranks, self.started = list(plays), ranks, 0
        self.threads: list[threading.Thread] = []

    def __call__(self, _launch: Launch, _kind: str, assignment: Path, _log: Path) -> Plays:
        _log.touch()
        path = Assignment.model_validate_json(assignment.read_text()).socket
        self.threads = []
        for rank in range(self.ranks):
            play = self.plays[min(self.started, len(self.plays) - 1)]
            self.started += 1
            self.threads.append(threading.Thread(target=self._run, args=(play, path, rank), daemon=True))
        for thread in self.threads:
            thread.start()
        return self

    @staticmethod
    def _run(play: Play, path: str, rank: int) -> None:
        played = PlayedRank(path, rank)
        try:
            play(played)
        except OSError:  # the coordinator has closed
            return
        finally:
            played.die()

    def wait(self) -> int:
        for thread in self.threads:
            thread.join(20)
        return 1

    def end(self) -> None:
        return


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Coordinator]]:
    opened: list[Coordinator] = []

    def make(plays: Plays, *, stall_seconds: float = 60, **settings: Any) -> Coordinator:
        assignment = Assignment(
            encoder=SentenceTransformersEncoder(),
            model_path="",
            modality="text",
            precision="float32",
            compute=Compute(),
            store="",
            fields=(),
            store_text=True,
            socket=str(tmp_path / "s"),
        )
        launch = Launch(ranks=plays.ranks, threads=1, device="cpu")
        opened.append(Coordinator(assignment, launch, tmp_path, stall_seconds=stall_seconds, start=plays, **settings))
        return opened[-1]

    yield make
    for ranks in opened:
        ranks.close()


def piece(first: int = 0, stop: int = 10) -> Piece:
    return Piece(shard="s", first=first, stop=stop, rows="", key=f"part-{first}")


def honest(rank: PlayedRank) -> None:
    rank.greet()
    while taken := rank.take():
        rank.finish(taken)


def dies_with(*rows: int) -> Play:
    def play(rank: PlayedRank) -> None:
        rank.greet()
        taken = rank.take()
        assert taken
        rank.say(Heartbeat(key=taken.key, rows=rows, done=0))

    return play


def test_every_piece_comes_back_as_its_part(start: Callable[..., Coordinator]) -> None:
    ranks = start(Plays(honest, honest, ranks=2))
    parts = [ranks.submit(piece(n, n + 10)) for n in range(0, 200, 10)]
    assert [part.result(20).first for part in parts] == list(range(0, 200, 10))
    assert ranks.pace.rows == 200


def test_ranks_take_turns_where_pieces_come_one_by_one(start: Callable[..., Coordinator]) -> None:
    """Else one may have nothing for as long as the other is quick."""
    ranks = start(Plays(honest, honest, ranks=2))
    first, until = 0, time.monotonic() + 10
    while len(ranks.pace.work) < 2:
        assert time.monotonic() < until
        ranks.submit(piece(first, first + 10)).result(20)
        first += 10
        time.sleep(0.02)  # both ask again


def test_the_facts_are_the_encoders_own(start: Callable[..., Coordinator]) -> None:
    assert start(Plays(honest)).facts() == FACTS


def test_an_encoder_that_cannot_be_loaded_fails_all_at_once(start: Callable[..., Coordinator]) -> None:
    def refuses(rank: PlayedRank) -> None:
        rank.say(Fault(leaf="bad input", text="no such model"))

    plays = Plays(refuses)
    with pytest.raises(BadInput, match="no such model"):
        start(plays).facts()
    assert plays.started == 1


def test_a_rank_that_dies_costs_only_its_own_piece(start: Callable[..., Coordinator]) -> None:
    heard: list[Piece] = []

    def careful(rank: PlayedRank) -> None:
        rank.greet()
        while taken := rank.take():
            heard.append(taken)
            rank.finish(taken)

    ranks = start(Plays(dies_with(3, 4), careful))
    parts = [ranks.submit(piece(n, n + 10)) for n in (0, 10)]
    assert [part.result(20).rows for part in parts] == [10, 10]
    assert [(p.first, p.suspects) for p in heard] == [(0, (3, 4)), (10, ())]


def test_a_row_that_kills_twice_is_barred(start: Callable[..., Coordinator]) -> None:
    ranks = start(Plays(dies_with(3, 4), dies_with(4), honest))
    part = ranks.submit(piece()).result(20)
    assert part.rows == 9


def test_a_piece_that_kills_without_a_clue_fails_for_good_and_the_next_goes_on(start: Callable[..., Coordinator]) -> None:
    def dies_on_the_first(rank: PlayedRank) -> None:
        rank.greet()
        while (taken := rank.take()) and taken.first:
            rank.finish(taken)

    ranks = start(Plays(dies_on_the_first))
    bad, good = ranks.submit(piece(0, 10)), ranks.submit(piece(10, 20))
    with pytest.raises(Permanent, match="died 3 times on source rows 0-9") as died:
        bad.result(20)
    assert died.value.row == 0
    assert good.result(20).rows == 10


def test_an_encoder_that_only_dies_is_given_up(start: Callable[..., Coordinator]) -> None:
    plays = Plays(lambda rank: None)
    with pytest.raises(Transient, match="died 3 times without finishing a piece"):
        start(plays).facts()
    assert plays.started == MOST_FRUITLESS


def test_a_fault_fails_its_piece_alone(start: Callable[..., Coordinator]) -> None:
    def faulty(rank: PlayedRank) -> None:
        rank.greet()
        taken = rank.take()
        assert taken
        rank.say(Fault(key=taken.key, leaf="transient", text="the store is down"))
        while taken := rank.take():
            rank.finish(taken)

    ranks = start(Plays(faulty))
    first, second = ranks.submit(piece(0, 10)), ranks.submit(piece(10, 20))
    with pytest.raises(Transient, match="the store is down"):
        first.result(20)
    assert second.result(20).rows == 10


def test_a_rank_that_says_nothing_is_ended_and_its_piece_given_out_again(start: Callable[..., Coordinator]) -> None:
    def hangs(rank: PlayedRank) -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        rank.say(Hello(rank=0, pid=process.pid, facts=FACTS))
        rank.hear()
        rank.take()
        assert process.wait(30) == -signal.SIGKILL

    ranks = start(Plays(hangs, honest), stall_seconds=0.5)
    assert ranks.submit(piece()).result(20).rows == 10


def test_a_rank_whose_part_is_long_on_its_way_to_the_store_lives_on(start: Callable[..., Coordinator]) -> None:
    def uploads_slowly(rank: PlayedRank) -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        rank.say(Hello(rank=0, pid=process.pid, facts=FACTS))
        rank.hear()
        taken = rank.take()
        assert isinstance(taken, Piece)
        for _ in range(15):
            rank.say(Storing(key=taken.key))
            time.sleep(0.1)
        ends.append(process.poll())
        process.kill()
        rank.finish(taken)

    ends: list[int | None] = []
    assert start(Plays(uploads_slowly), stall_seconds=0.5).submit(piece()).result(20).rows == 10
    assert ends[0] is None


def test_a_death_while_a_part_is_on_its_way_to_the_store_is_no_rows_fault(start: Callable[..., Coordinator]) -> None:
    heard: list[Piece] = []

    def dies_uploading(rank: PlayedRank) -> None:
        rank.greet()
        taken = rank.take()
        assert isinstance(taken, Piece)
        rank.say(Heartbeat(key=taken.key, rows=(3, 4), done=8))
        rank.say(Storing(key=taken.key))

    def careful(rank: PlayedRank) -> None:
        rank.greet()
        while isinstance(taken := rank.take(), Piece):
            heard.append(taken)
            rank.finish(taken)

    assert start(Plays(dies_uploading, careful)).submit(piece()).result(20).rows == 10
    assert heard[0].suspects == ()


def obedient(rank: PlayedRank) -> None:
    """Leaves when it is told to."""
    rank.greet()
    while isinstance(taken := rank.take(), Piece):
        rank.finish(taken)
    assert isinstance(taken, NoMoreWork)


def test_ranks_that_may_rest_leave_and_are_not_started_again(start: Callable[..., Coordinator]) -> None:
    plays = Plays(obedient)
    ranks = start(plays)
    assert ranks.submit(piece()).result(20).rows == 10
    ranks.release()
    assert plays.wait() == 1
    assert plays.started == 1


def test_ranks_that_are_dismissed_have_left_when_that_is_said(start: Callable[..., Coordinator]) -> None:
    plays = Plays(obedient, obedient, ranks=2)
    ranks = start(plays)
    assert ranks.submit(piece()).result(20).rows == 10
    ranks.release(wait=True)
    assert not any(thread.is_alive() for thread in plays.threads)
    ranks.release(wait=True)
    assert plays.started == 2


def test_work_that_comes_after_all_starts_the_ranks_again(start: Callable[..., Coordinator]) -> None:
    plays = Plays(obedient)
    ranks = start(plays)
    for first in (0, 10, 20):
        assert ranks.submit(piece(first, first + 10)).result(20).first == first
        ranks.release(wait=True)
    assert plays.started == 3


def test_work_that_comes_while_the_ranks_leave_is_done(start: Callable[..., Coordinator]) -> None:
    ranks = start(Plays(obedient))
    for first in range(0, 100, 10):
        assert ranks.submit(piece(first, first + 10)).result(20).first == first
        ranks.release()


def test_a_rank_that_does_not_leave_is_ended(start: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.adapters.processes.coordinator.REST_SECONDS", 0.2)
    ended = threading.Event()

    def stubborn(rank: PlayedRank) -> None:
        rank.greet()
        rank.finish(rank.take())  # type: ignore[arg-type]
        rank.take()
        assert ended.wait(20)

    plays = Plays(stubborn)
    monkeypatch.setattr(plays, "end", ended.set)
    ranks = start(plays)
    assert ranks.submit(piece()).result(20).rows == 10
    ranks.release(wait=True)
    assert ended.is_set()


def test_who_comes_later_to_an_encoder_that_cannot_be_loaded_is_told_the_same(start: Callable[..., Coordinator]) -> None:
    ranks = start(Plays(lambda rank: rank.say(Fault(leaf="bad input", text="no such model"))))
    with pytest.raises(BadInput, match="no such model"):
        ranks.submit(piece()).result(20)
    with pytest.raises(BadInput, match="no such model"):
        ranks.submit(piece(10, 20))


def test_closing_fails_what_is_not_done(start: Callable[..., Coordinator]) -> None:
    def sleeps(rank: PlayedRank) -> None:
        rank.greet()
        rank.take()
        rank.hear()

    ranks = start(Plays(sleeps))
    waiting = ranks.submit(piece())
    ranks.close()
    with pytest.raises(Transient, match="closed"):
        waiting.result(20)
    with pytest.raises(Transient, match="closed"):
        ranks.submit(piece())


def test_what_takes_connections_ends_with_the_ranks(start: Callable[..., Coordinator]) -> None:
    before = set(threading.enumerate())
    ranks = start(Plays(honest))
    ranks.submit(piece()).result(20)
    (accepts,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "ranks-accept")
    ranks.close()
    accepts.join(10)
    assert not accepts.is_alive()


def told_in_time(call: Callable[[], object]) -> object:
    """What a call raises; None where it still waits after some seconds."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    return raised[0] if raised else None


def assert_fails(ranks: Coordinator, waiting: Callable[[], object], leaf: type[Exception], words: str) -> None:
    error = told_in_time(waiting)
    assert isinstance(error, leaf)
    assert words in str(error)
    assert told_in_time(lambda: ranks.submit(piece(90, 100)).result(9)) is error, "whatever comes later has to fail as well"


def test_a_device_lock_that_cannot_be_opened_fails_the_run(start: Callable[..., Coordinator], tmp_path: Path) -> None:
    (tmp_path / "kitestring-cpu.lock").symlink_to(tmp_path / "nowhere")
    ranks = start(Plays(honest), devices=Devices(["cpu"], folders=[tmp_path]))
    assert_fails(ranks, ranks.facts, BadInput, "remove it, or set compute.exclusive to false")


def test_processes_that_cannot_be_started_fail_the_run(start: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Plays:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Plays, "__call__", refuse)
    ranks = start(Plays(honest))
    assert_fails(ranks, ranks.facts, Permanent, "(ranks-watch) has ended: BlockingIOError")


def test_an_encoder_that_does_not_get_ready_in_time_is_ended(start: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    plays = Plays(lambda rank: ended.wait(20) and None)
    monkeypatch.setattr(plays, "end", ended.set)
    ranks = start(plays, stall_seconds=0.4, startup_seconds=0.3)
    assert_fails(ranks, ranks.facts, Permanent, "failures.startup_seconds")
    assert ended.is_set()
    assert plays.started == 1


def test_an_encoder_that_is_ready_has_all_the_time(start: Callable[..., Coordinator]) -> None:
    def slow(rank: PlayedRank) -> None:
        rank.greet()
        while taken := rank.take():
            time.sleep(1)
            rank.finish(taken)

    assert start(Plays(slow), stall_seconds=4, startup_seconds=0.5).submit(piece()).result(20).rows == 10


@pytest.mark.parametrize(("part", "name"), [("_take", "rank"), ("_end_stalled", "ranks-stalls")])
def test_a_thread_that_dies_fails_what_waits_for_it(
    start: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    def only_greets(rank: PlayedRank) -> None:
        rank.say(Hello(rank=0, pid=0, facts=FACTS))
        while rank.hear():
            pass

    monkeypatch.setattr(Coordinator, part, broken)
    ranks = start(Plays(only_greets), stall_seconds=1)
    assert_fails(ranks, lambda: ranks.submit(piece()).result(20), Permanent, f"({name}) has ended: RuntimeError: a mistake")


def test_a_socket_that_takes_no_connection_fails_the_run(start: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = start(Plays(honest))

    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def close(self) -> None: ...

    monkeypatch.setattr(ranks, "_listener", Full())
    assert_fails(ranks, ranks.facts, Transient, "Too many open files")
