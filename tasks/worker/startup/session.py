"""The life of a rank: load the encoder, run, close."""

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
from tasks.worker.optimize.int8 import load_or_quantize
from tasks.worker.pipeline.coordinator_client import CoordinatorClient, fault_of
from tasks.worker.pipeline.rank import Rank
from tasks.worker.startup.agreement import Start, Stopwatch, place_rank
from tasks.worker.startup.process_group import joined_group
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import AnotherFailed, SharingGroup
from tasks.worker.system.signals import ShutdownSignal


def serve(assignment: Assignment) -> int:
    """Run a rank. Returns 0 if there is no more work or the coordinator has ended, 1 if the encoder cannot be loaded or breaks."""
    watch = Stopwatch()
    watch.seconds["launch"] = round(seconds_alive(os.getppid()), 3)  # age of the agent, from which a forked rank inherits its imports
    coordinator = CoordinatorClient(assignment.socket)
    try:
        encoder, hello, measured, sharing = _build(assignment, watch)
    except AnotherFailed:
        return 1
    except KitestringError as error:
        coordinator.send(fault_of(error))
        return 1
    return _run(assignment, encoder, hello, coordinator, measured, sharing)


def _build(assignment: Assignment, watch: Stopwatch) -> tuple[LoadedEncoder, Hello, Tuning | None, SharingGroup | None]:
    with ExitStack() as stack:
        place = place_rank(assignment.compute, needs_torch=ENCODERS[assignment.encoder.kind].needs_torch)
        place = replace(
            place, references=assignment.references, int8=partial(load_or_quantize, assignment) if assignment.quantized_key else None
        )
        shares = assignment.compute.model_parallel != "off" and place.ranks > 1
        with watch.step("join"):
            group = stack.enter_context(joined_group(place.ranks, assignment.startup_seconds, stays=shares))
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
        setup = f"{place.ranks} x {facts.device}, {place.threads} threads, {facts.dim} dimensions"
        sys.stderr.write(f"[rank 0] {setup}; {facts.note}; start-up in seconds: {took}\n")


def _run(  # noqa: PLR0917 - the results of _build
    assignment: Assignment,
    encoder: LoadedEncoder,
    hello: Hello,
    coordinator: CoordinatorClient,
    measured: Tuning | None,
    sharing: SharingGroup | None,
) -> int:
    shutdown = ShutdownSignal()
    try:
        store = open_store(assignment.store, proven=True)
        coordinator.send(hello)
        Rank(coordinator, encoder, store, assignment, shutdown).work()
        if sharing is not None:
            sharing.leave(partial(shutdown.allows, 0.0))
        _save_tuning(measured, store, assignment.tuning_key)  # last: a bad job writes nothing
    except ConnectionError:  # the coordinator has ended
        return 0
    except Fatal as error:
        sys.stderr.write(f"[rank {hello.rank}] Error: {first_line(error)}\n")
        return 1
    finally:
        encoder.close()
        coordinator.close()
    return 0


def _save_tuning(measured: Tuning | None, store: Store, key: str) -> None:
    """Save the measurements for the next run, which measures again if the store refuses them."""
    if measured and key:
        try:
            write_document(store, key, measured)
        except KitestringError as error:
            sys.stderr.write(f"Cannot save the encoder's measurements: {first_line(error)}\n")
