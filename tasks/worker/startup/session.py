"""A rank from its first breath to its last: build, run, close."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.process_mark import seconds_alive
from tasks.domain.encoding.protocol import Assignment, Hello
from tasks.domain.encoding.tuning import Tuning
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.ports import Store
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoding_errors import Fatal, first_line
from tasks.worker.optimize.int8 import kept_int8
from tasks.worker.pipeline.coordinator_client import CoordinatorClient, fault_of
from tasks.worker.pipeline.rank import Rank
from tasks.worker.startup.agreement import Start, Stopwatch, take_place
from tasks.worker.startup.process_group import gathered
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import AnotherFailed, SharingGroup
from tasks.worker.system.signals import ShutdownSignal


def serve(assignment: Assignment) -> int:
    """Run a rank. 0: no more work, or the coordinator has ended; 1: the encoder cannot be loaded."""
    watch = Stopwatch()
    watch.seconds["launch"] = round(seconds_alive(os.getppid()), 3)  # of the agent; a forked rank has its imports
    wire = CoordinatorClient(assignment.socket)
    try:
        encoder, hello, measured, sharing = _build(assignment, watch)
    except AnotherFailed:
        return 1
    except KitestringError as error:
        wire.send(fault_of(error))
        return 1
    return _run(assignment, encoder, hello, wire, measured, sharing)


def _build(assignment: Assignment, watch: Stopwatch) -> tuple[LoadedEncoder, Hello, Tuning | None, SharingGroup | None]:
    with ExitStack() as stack:
        place = take_place(assignment.compute, needs_torch=ENCODERS[assignment.encoder.kind].needs_torch)
        place = replace(place, references=assignment.references, int8=partial(kept_int8, assignment) if assignment.quantized_key else None)
        shares = assignment.compute.model_parallel != "off" and place.ranks > 1
        with watch.step("join"):
            group = stack.enter_context(gathered(place.ranks, assignment.startup_seconds, stays=shares))
            if shares:
                place = replace(place, sharing=SharingGroup(place.device, assignment.startup_seconds))
        start = Start(assignment, place, group, watch)
        encoder, facts = start.encoder()
    encoder.start()
    hello = Hello(rank=place.rank, pid=os.getpid(), facts=facts, seconds=watch.seconds)
    _announce(hello, place)
    return encoder, hello, start.measured, place.sharing


def _announce(hello: Hello, place: RankPlacement) -> None:
    if hello.rank == 0:
        facts, took = hello.facts, ", ".join(f"{step} {seconds:.1f}" for step, seconds in hello.seconds.items())
        what = f"{place.ranks} x {facts.device}, {place.threads} threads, {facts.dim} dimensions"
        sys.stderr.write(f"[rank 0] {what}; {facts.note}; start-up in seconds: {took}\n")


def _run(  # noqa: PLR0917 - what _build has made
    assignment: Assignment,
    encoder: LoadedEncoder,
    hello: Hello,
    wire: CoordinatorClient,
    measured: Tuning | None,
    sharing: SharingGroup | None,
) -> int:
    notice = ShutdownSignal()
    try:
        store = open_store(assignment.store, proven=True)
        wire.send(hello)
        Rank(wire, encoder, store, assignment, notice).work()
        if sharing is not None:
            sharing.leave(partial(notice.allows, 0.0))
        _keep(measured, store, assignment.tuning_key)  # not before: a job that turns out to be bad writes nothing
    except ConnectionError:  # the coordinator has ended
        return 0
    except Fatal as error:
        sys.stderr.write(f"[rank {hello.rank}] Error: {first_line(error)}\n")
        return 1
    finally:
        encoder.close()
        wire.close()
    return 0


def _keep(measured: Tuning | None, store: Store, key: str) -> None:
    """For the next run; where the store refuses it, that one measures again."""
    if measured and key:
        try:
            write_document(store, key, measured)
        except KitestringError as error:
            sys.stderr.write(f"The encoder's measurements could not be saved: {first_line(error)}\n")
