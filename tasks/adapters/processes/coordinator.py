"""The coordinator: one queue of pieces for all shards in flight, and the ranks that take from it.

Ranks request work when they have room, so a slow rank gets less and none waits for another. When a rank dies, its pieces
return to the head of the queue, and a new launch encodes them (`tasks.adapters.processes.supervisor`). When all is done the
ranks exit, which frees their devices while the run continues; later work starts them again.
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
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch
from tasks.adapters.processes.prestart import start_torchrun
from tasks.adapters.processes.rank_connection import RankConnection, RankWorkItem
from tasks.adapters.processes.supervisor import LaunchSupervisor, Processes, in_background
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.crash_attribution import DEATHS_WITHOUT_A_CLUE, after_death
from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay
from tasks.domain.encoding.protocol import (
    Assignment,
    Done,
    Fault,
    FromRank,
    Heartbeat,
    Hello,
    NoMoreWork,
    Piece,
    RequestPiece,
    Storing,
    Welcome,
)
from tasks.domain.encoding.throughput import Throughput
from tasks.domain.errors import KitestringError, Permanent, Transient, error_of
from tasks.domain.shards.seal import Part

REST_SECONDS = 20.0  # within which an idle rank exits on its own
log = logging.getLogger("kitestring.ranks")


class Coordinator:
    """The `Encoders` of torchrun. Its processes start on first use and run until `release` or `close`."""

    def __init__(
        self,
        assignment: Assignment,
        launch: Launch,
        scratch: Path,
        *,
        stall_seconds: float = 300,
        startup_seconds: float = 1800,
        start: Callable[[Launch, str, Path, Path], Processes] | None = None,
        devices: Devices | None = None,
    ) -> None:
        self.pace = Throughput(ranks=launch.ranks)
        self.waits_for = ""
        self.log = scratch / "ranks.log"
        self._startup: dict[str, float] = {}
        self._newest: dict[int, str] = {}  # by rank: the shard of its last part
        self._most_queued, self._stall_seconds, self._startup_seconds = 2 * launch.ranks, stall_seconds, startup_seconds
        devices, assignment_file = devices or Devices(), scratch / "assignment.json"
        assignment_file.write_text(assignment.model_dump_json())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(assignment.socket)
        self._listener.listen(launch.ranks)
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[RankWorkItem] = deque()
        self._links: list[RankConnection] = []
        self._facts: Future[EncoderFacts] = Future()
        self._closed = self._resting = self._started = False
        self._broken: KitestringError | None = None  # why no more work is accepted
        start = start or partial(start_torchrun, devices=devices)
        starts = partial(start, launch, assignment.encoder.kind, assignment_file, self.log)
        self._launches = LaunchSupervisor(starts, devices, self, changed=self._changed, output=self.log)

    # The interface of `Encoders`

    def start(self) -> None:
        """Start a launch if none is running; returns at once, while the encoder loads."""
        with self._changed:
            if self._closed:
                return
            if not self._started:
                in_background(self._accept, name="ranks-accept", failed=self.fail)
                in_background(self._watch, name="ranks-stalls", failed=self.fail)
                self._started = True
            self._resting = False
            self._launches.begin()

    def facts(self) -> EncoderFacts:
        """Wait for the encoder to load and return its facts.

        Raises:
            BadInput: the encoder cannot be loaded; the message is the worker's.
            Transient: the ranks died before they reported anything.
            Permanent: they were not ready in time.
        """
        self.start()
        return self._facts.result()

    def submit(self, piece: Piece) -> Future[Part]:
        """Queue a piece; blocks while the queue is full, which bounds the reader.

        Raises:
            BadInput: the encoder cannot be loaded.
            Transient: the encoder was given up, or the run is ending.
        """
        work = RankWorkItem(piece=piece, part=Future())
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_hopeless or len(self._queue) < self._most_queued)
            if self._closed:
                raise Transient("the encoder is closed: the run is ending")
            if self._broken:
                raise self._broken
            if self._is_hopeless:
                self._facts.result()
            self.start()
            self._queue.append(work)
            self._feed()
        return work.part

    def progress(self) -> EncodingProgress:
        """The work of the ranks so far, and the position of each."""
        with self._changed:
            newest, startup = dict(self._newest), dict(self._startup)
        return self.pace.progress(under_way=self._under_way(), newest=newest, startup=startup, waits_for=self.waits_for)

    def _under_way(self) -> list[UnderWay]:
        with self._changed:
            links = [(link, link.at, link.held.get(link.at.key)) for link in self._links if link.at]
        return [
            UnderWay(rank=link.rank, shard=work.piece.name, first=work.piece.first, stop=work.piece.stop, done=at.done)
            for link, at, work in sorted(links, key=lambda entry: entry[0].rank)
            if work
        ]

    def release(self, *, wait: bool = False) -> None:
        """No more work is expected: the ranks exit, which frees their devices while the run continues.

        Later work (a damaged part is encoded again) is still done, after the ranks have restarted.
        `wait`: return only when every rank has exited; ends those that do not.
        """
        with self._changed:
            self._resting = True
            self._feed()
            if not wait:
                return
            self._changed.wait_for(lambda: not self._launches.under_way or not self._resting, timeout=REST_SECONDS)
            stays = self._launches.under_way and self._resting and not any(link.held for link in self._links)
        if stays:
            self._launches.end()

    def close(self) -> None:
        """End every rank; unfinished pieces fail with Transient."""
        with self._changed:
            self._closed = True
            self.give_up(Transient("the encoder is closed: the run is ending"))
        self._launches.end()
        with contextlib.suppress(OSError):  # if shutdown fails, closing alone ends the accepting thread
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # Work

    def _feed(self) -> None:
        while self._queue and (hungry := [link for link in self._links if link.wants]):
            link = min(hungry, key=lambda link: (len(link.held), link.heard))  # in turn, or the first takes all if work is scarce
            work = self._queue.popleft()
            link.held[work.piece.key] = work
            link.wants, link.heard = link.wants - 1, time.monotonic()
            link.send(work.piece)
        for link in self._links:
            if link.wants and self._resting:
                link.wants = 0
                link.send(NoMoreWork())
        self._changed.notify_all()

    def _take(self, link: RankConnection, message: Hello | RequestPiece | Heartbeat | Storing | Done | Fault) -> None:
        link.heard = time.monotonic()
        match message:
            case Hello():
                self._greet(link, message)
            case RequestPiece():
                link.wants += 1
                self._feed()
            case Heartbeat():
                self.pace.at(link.rank, message.key, message.done, message.tokens)
                link.at = message
            case Storing():
                if link.at and link.at.key == message.key:  # no row is being encoded that could be blamed for a later crash
                    link.at = link.at.model_copy(update={"rows": ()})
            case Done():
                self._finish(link, message)
            case Fault(key=""):
                self._settle_facts(error_of(message.leaf, message.text))
            case Fault():
                self.pace.failed(link.rank, message.key)
                if work := link.held.pop(message.key, None):
                    work.fail(error_of(message.leaf, message.text))

    def _greet(self, link: RankConnection, hello: Hello) -> None:
        link.rank, link.pid = hello.rank, hello.pid
        self._launches.ready()
        self._startup = self._startup or hello.seconds
        self._settle_facts(hello.facts)
        link.send(Welcome())

    def _finish(self, link: RankConnection, done: Done) -> None:
        part = done.part
        work = link.held.pop(part.key, None)
        self._launches.gained()
        self.pace.done(link.rank, part, padded=done.padded, halved=done.halved, memory=done.memory)
        self._newest[link.rank] = work.piece.name if work else ""
        if work and not work.part.cancelled():
            work.part.set_result(part)

    def _settle_facts(self, outcome: EncoderFacts | KitestringError) -> None:
        if self._facts.done():
            return
        if isinstance(outcome, KitestringError):
            self._facts.set_exception(outcome)
            self.give_up(outcome)
        else:
            self._facts.set_result(outcome)

    @property
    def needs_processes(self) -> bool:
        return not (self._closed or self._is_hopeless or (self._resting and not self._queue))

    @property
    def has_heard_all(self) -> bool:
        return self._facts.done() and not self._links

    @property
    def _is_hopeless(self) -> bool:
        return self._broken is not None or (self._facts.done() and self._facts.exception() is not None)

    def give_up(self, error: KitestringError) -> None:
        """Fail all pending pieces, and later ones too if no rank was ever ready."""
        waiting = [*self._queue, *(work for link in self._links for work in link.held.values())]
        self._queue.clear()
        for link in self._links:
            link.held.clear()
        for work in waiting:
            work.fail(error)
        if not self._facts.done():
            self._facts.set_exception(error)
        self._changed.notify_all()

    def fail(self, error: KitestringError) -> None:
        """Fail all pending and future pieces, and end every rank."""
        with self._changed:
            self._broken = self._broken or error
            self.give_up(error)
        self._launches.end()

    # Connections

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                raise Transient(f"no further rank can connect: {error}") from error
            in_background(self._serve, RankConnection(connection=connection), name="rank", failed=self.fail)

    def _serve(self, link: RankConnection) -> None:
        with self._changed:
            self._links.append(link)
        try:
            self._listen(link)
        finally:
            with self._changed:
                self._lose(link)

    def _listen(self, link: RankConnection) -> None:
        with link.connection, link.connection.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                try:
                    message = FromRank.validate_json(line)
                except ValidationError:  # the rank was killed while writing
                    break
                with self._changed:
                    self._take(link, message)

    def _lose(self, link: RankConnection) -> None:
        """Handle the end of a rank: requeue its pieces at the head. Only the first death of a launch is blamed on a piece."""
        self._links.remove(link)
        self.pace.gone(link.rank)
        lost = [work for work in link.held.values() if not work.part.done()]
        if lost and not self._launches.blamed and not self._closed:
            self._launches.blamed = True
            in_hand = link.held.get(link.at.key) if link.at else None
            blamed = in_hand if in_hand in lost else lost[0]
            blamed.deaths += 1
            barred = len(blamed.piece.barred)
            blamed.piece = after_death(blamed.piece, link.at)
            if len(blamed.piece.barred) > barred:
                self._launches.learnt()
            log.warning(
                "rank %d died while encoding source rows %d-%d of shard %s",
                link.rank,
                blamed.piece.first,
                blamed.piece.stop - 1,
                blamed.piece.shard,
            )
            clueless = not blamed.piece.suspects and not blamed.piece.barred
            if clueless and blamed.deaths >= DEATHS_WITHOUT_A_CLUE:
                lost.remove(blamed)
                self._launches.learnt()
                died = f"the encoder died {blamed.deaths} times on source rows {blamed.piece.first}-{blamed.piece.stop - 1}"
                blamed.fail(Permanent(died, row=blamed.piece.first))
        self._queue.extendleft(reversed(lost))
        self._feed()

    def _watch(self) -> None:
        while not self._closed:
            time.sleep(min(1.0, self._stall_seconds / 4))
            self._end_stalled()
            if self._launches.starting_for > self._startup_seconds:
                raise Permanent(
                    f"the encoder was not ready {self._startup_seconds:,.0f} s after its processes were started"
                    f" (failures.startup_seconds: set it higher if the model takes longer to load); their last output:"
                    f" {self._launches.last_words()}"
                )

    def _end_stalled(self) -> None:
        """Kill ranks that have work but were silent for `stall_seconds`; the death is then handled like any other."""
        with self._changed:
            for link in self._links:
                if link.held and link.pid and time.monotonic() - link.heard > self._stall_seconds:
                    log.warning("rank %d was silent for %.0f s and is killed", link.rank, self._stall_seconds)
                    link.heard = time.monotonic()
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(link.pid, signal.SIGKILL)
