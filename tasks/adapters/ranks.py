"""The coordinator: one queue of pieces for every shard in flight, and the ranks that take from it.

Ranks ask for work when they have room, so a slow one gets less and none waits for another. When a rank dies
the elastic agent ends the launch (the others finish the piece in hand first); what was not done goes back to
the head of the queue and a new launch takes it up. A launch that got nothing done counts against
`MOST_FRUITLESS`: an encoder that only dies is given up, with what it said last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from tasks.adapters.devices import Devices
from tasks.adapters.hardware import Launch
from tasks.adapters.launch import Torchrun
from tasks.adapters.rank_link import Link, UnderWay, Work
from tasks.domain.blame import DEATHS_WITHOUT_A_CLUE, after_death
from tasks.domain.encoder import EncoderFacts
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.messages import Assignment, At, Done, Fault, FromRank, Hello, Piece, Rest, Want, Welcome
from tasks.domain.pace import Pace
from tasks.domain.seal import Part

MOST_FRUITLESS = 3
LAST_WORDS_SECONDS = 2.0
LEAVES: dict[str, type[KitestringError]] = {"transient": Transient, "permanent": Permanent, "bad input": BadInput}
log = logging.getLogger("kitestring.ranks")


class Processes(Protocol):
    """One launch of the ranks: `Torchrun`, or what a test puts in its place."""

    def wait(self) -> int:
        """Block until every process is gone."""

    def end(self) -> None:
        """End every process."""


class Ranks:
    """The encoder's processes, started at the first need and kept until `close`."""

    def __init__(
        self,
        assignment: Assignment,
        launch: Launch,
        scratch: Path,
        *,
        stall_seconds: float = 300,
        start: Callable[[Launch, Path, Path], Processes] | None = None,
        devices: Devices | None = None,
    ) -> None:
        self.pace = Pace(ranks=launch.ranks)
        self.waits_for = ""
        self.log = scratch / "ranks.log"
        self.startup: dict[str, float] = {}
        self.delivered: dict[int, tuple[int, int, str]] = {}  # by rank: parts, their rows, the shard of the last one
        self._launch, self._stall_seconds, self._devices = launch, stall_seconds, devices or Devices()
        self._start_processes = start or partial(Torchrun, devices=self._devices)
        self._assignment = scratch / "assignment.json"
        self._assignment.write_text(assignment.model_dump_json())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(assignment.socket)
        self._listener.listen(launch.ranks)
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[Work] = deque()
        self._links: list[Link] = []
        self._facts: Future[EncoderFacts] = Future()
        self._torchrun: Processes | None = None
        self._done_in_launch = self._fruitless = 0
        self._blamed = self._closed = self._resting = self._started = False

    # What a run asks of it

    def start(self) -> None:
        """Launch, if that has not happened yet; returns at once, the encoder loads meanwhile."""
        with self._changed:
            if not self._started and not self._closed:
                self._started = True
                _in_background(self._accept, name="ranks-accept")
                _in_background(self._watch_for_stalls, name="ranks-stalls")
                self._relaunch()

    def facts(self) -> EncoderFacts:
        """What the loaded encoder says of itself; waits for it.

        Raises:
            BadInput: the encoder cannot be loaded, in the worker's words.
            Transient: the ranks died before they could say anything.
        """
        self.start()
        return self._facts.result()

    def submit(self, piece: Piece) -> Future[Part]:
        """Queue a piece; waits while the queue is full, which is what bounds the reader."""
        self.start()
        work = Work(piece=piece, part=Future())
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._resting or len(self._queue) < 2 * self._launch.ranks)
            if self._closed or self._resting:
                raise Transient("the encoder is closed: the run is ending")
            self._queue.append(work)
            self._feed()
        return work.part

    def under_way(self) -> list[UnderWay]:
        """What each rank is at."""
        with self._changed:
            links = [(link, link.at, link.held.get(link.at.key)) for link in self._links if link.at]
        return [
            UnderWay(rank=link.rank, shard=work.piece.name, first=work.piece.first, stop=work.piece.stop, done=at.done)
            for link, at, work in sorted(links, key=lambda entry: entry[0].rank)
            if work
        ]

    def rest(self) -> None:
        """No more work will come: the ranks leave, and their device is free while the run goes on to its end."""
        with self._changed:
            self._resting = True
            self._feed()
        self._devices.release()  # the guard holds on until the ranks have left

    def close(self) -> None:
        """End every rank; what is not done fails with Transient."""
        with self._changed:
            self._closed = True
            torchrun, self._torchrun = self._torchrun, None
            self._give_up(Transient("the encoder is closed: the run is ending"))
            self._changed.notify_all()
        if torchrun is not None:
            torchrun.end()
        self._devices.release()
        self._listener.close()

    # Work

    def _feed(self) -> None:
        for link in self._links:
            while link.wants and self._queue:
                work = self._queue.popleft()
                link.held[work.piece.key] = work
                link.wants -= 1
                link.heard = time.monotonic()
                link.send(work.piece)
            if link.wants and self._resting:
                link.wants = 0
                link.send(Rest())
        self._changed.notify_all()

    def _take(self, link: Link, message: Hello | Want | At | Done | Fault) -> None:
        link.heard = time.monotonic()
        match message:
            case Hello():
                self._greet(link, message)
            case Want():
                link.wants += 1
                self._feed()
            case At():
                self.pace.at(link.rank, message.key, message.done, message.tokens)
                link.at = message
            case Done():
                self._finish(link, message.part)
            case Fault(key=""):
                self._settle_facts(LEAVES[message.leaf](message.text))
            case Fault():
                work = link.held.pop(message.key, None)
                if work:
                    work.fail(LEAVES[message.leaf](message.text))

    def _greet(self, link: Link, hello: Hello) -> None:
        link.rank, link.pid = hello.rank, hello.pid
        self.startup = self.startup or hello.seconds
        self._settle_facts(hello.facts)
        link.send(Welcome())

    def _finish(self, link: Link, part: Part) -> None:
        work = link.held.pop(part.key, None)
        self._done_in_launch += 1
        self._fruitless = 0
        self.pace.done(link.rank, part)
        parts, rows, _ = self.delivered.get(link.rank, (0, 0, ""))
        self.delivered[link.rank] = (parts + 1, rows + part.rows, work.piece.name if work else "")
        if work and not work.part.cancelled():
            work.part.set_result(part)

    def _settle_facts(self, found: EncoderFacts | KitestringError) -> None:
        if self._facts.done():
            return
        if isinstance(found, KitestringError):
            self._facts.set_exception(found)
            self._give_up(found)
        else:
            self._facts.set_result(found)

    def _give_up(self, error: KitestringError) -> None:
        waiting = [*self._queue, *(work for link in self._links for work in link.held.values())]
        self._queue.clear()
        for link in self._links:
            link.held.clear()
        for work in waiting:
            work.fail(error)
        if not self._facts.done():
            self._facts.set_exception(error)

    # Connections

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            _in_background(self._serve, Link(connection=connection), name="rank")

    def _serve(self, link: Link) -> None:
        with self._changed:
            self._links.append(link)
        with link.connection, link.connection.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                try:
                    message = FromRank.validate_json(line)
                except ValidationError:  # a rank that was killed while it wrote
                    break
                with self._changed:
                    self._take(link, message)
        with self._changed:
            self._lose(link)

    def _lose(self, link: Link) -> None:
        """A rank has gone: what it held goes to the head of the queue. Only the first of a launch is to blame."""
        self._links.remove(link)
        self.pace.gone(link.rank)
        lost = [work for work in link.held.values() if not work.part.done()]
        if lost and not self._blamed and not self._closed:
            self._blamed = True
            in_hand = link.held.get(link.at.key) if link.at else None
            held = in_hand if in_hand in lost else lost[0]
            held.deaths += 1
            barred = len(held.piece.barred)
            held.piece = after_death(held.piece, link.at)
            self._done_in_launch += len(held.piece.barred) - barred  # to know the row is to get on
            log.warning(
                "rank %d died with source rows %d-%d of shard %s in hand",
                link.rank,
                held.piece.first,
                held.piece.stop - 1,
                held.piece.shard,
            )
            clueless = not held.piece.suspects and not held.piece.barred
            if clueless and held.deaths >= DEATHS_WITHOUT_A_CLUE:
                lost.remove(held)
                self._done_in_launch += 1
                held.fail(Permanent(f"the encoder died {held.deaths} times on source rows {held.piece.first}-{held.piece.stop - 1}"))
        self._queue.extendleft(reversed(lost))
        self._feed()

    # Launches

    def _relaunch(self) -> None:
        self._done_in_launch, self._blamed = 0, False
        _in_background(self._launch_in_turn, name="ranks-watch")

    def _launch_in_turn(self) -> None:
        """Start the processes once their devices are this run's, and watch them."""
        if not self._devices.take(self._wait_for, lambda: self._closed or (self._resting and not self._queue)):
            return
        with self._changed:
            if self._closed:
                self._devices.release()
                return
            torchrun = self._torchrun = self._start_processes(self._launch, self._assignment, self.log)
        self._watch(torchrun)

    def _wait_for(self, what: str) -> None:
        self.waits_for = what

    def _watch(self, torchrun: Processes) -> None:
        """When a launch has ended, decide whether another one makes sense."""
        torchrun.wait()
        with self._changed:
            # What a rank said last may still be in its socket, or the socket in the listener's queue.
            self._changed.wait_for(lambda: self._facts.done() and not self._links, timeout=LAST_WORDS_SECONDS)
            if self._closed or self._torchrun is not torchrun:
                return
            if self._is_hopeless() or (self._resting and not self._queue):
                return
            self._fruitless = 0 if self._done_in_launch else self._fruitless + 1
            if self._fruitless >= MOST_FRUITLESS:
                self._give_up(
                    Transient(f"the encoder's processes died {self._fruitless} times without finishing a piece: {_last_words(self.log)}")
                )
                self._fruitless = 0
                if self._is_hopeless():
                    return
            log.warning("the encoder's processes ended; starting them again")
            self._relaunch()

    def _is_hopeless(self) -> bool:
        return self._facts.done() and self._facts.exception() is not None

    def _watch_for_stalls(self) -> None:
        """A rank with work that says nothing for too long is ended; its death is then handled as any other."""
        while not self._closed:
            time.sleep(min(1.0, self._stall_seconds / 4))
            with self._changed:
                for link in self._links:
                    if link.held and link.pid and time.monotonic() - link.heard > self._stall_seconds:
                        log.warning("rank %d has said nothing for %.0f s and is ended", link.rank, self._stall_seconds)
                        link.heard = time.monotonic()
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(link.pid, signal.SIGKILL)


def _in_background(work: Callable[..., None], *arguments: object, name: str) -> None:
    """With the context of who starts it, so that what it logs stands in the run's log."""
    threading.Thread(target=copy_context().run, args=(work, *arguments), daemon=True, name=name).start()


def _last_words(log_file: Path) -> str:
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("[rank")]
    return (told or [line for line in lines if "Error" in line] or lines or ["it said nothing"])[-1][-500:]
