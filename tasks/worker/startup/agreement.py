"""Makes all ranks of a launch load the same encoder with the same settings."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.adapters.processes.gc_control import importing
from tasks.adapters.processes.hardware import cores
from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import Backend, Tuning, int8_backend
from tasks.domain.errors import BadInput, KitestringError, Permanent
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Compute
from tasks.domain.strict import Strict
from tasks.worker.base import LoadedEncoder, Work
from tasks.worker.encoders.registry import import_library, open_encoder
from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line
from tasks.worker.optimize.autotune import (
    WORTH_BACKENDS,
    WORTH_INT8,
    WORTH_TOKENS,
    Metered,
    TunedBatch,
    choose_backend,
    compare_backends,
    int8_remark,
    tune_batches,
    worth_measuring,
)
from tasks.worker.optimize.int8 import check_same_int8
from tasks.worker.optimize.precision import (
    Bfloat16Failed,
    Decision,
    decide,
    decide_eight_bits,
    expected_precision,
    native_bfloat16,
    query_cosines,
    sample_cosines,
)
from tasks.worker.optimize.quality import LOWEST_COSINE
from tasks.worker.startup.process_group import ProcessGroup
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import AnotherFailed


def place_rank(compute: Compute, *, needs_torch: bool = True) -> RankPlacement:
    """Choose this process's threads and device, and configure torch if the encoder needs it. Reads torchrun's environment variables.

    On a GPU, opens a context on this rank's device only. An encoder without torch uses no device.

    Raises:
        BadInput: the job requires a GPU and there is none.
    """
    rank, ranks = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = max(1, cores() // ranks) if compute.threads == "auto" else compute.threads
    if not needs_torch:
        return RankPlacement(rank=rank, ranks=ranks, threads=threads)
    torch = _torch()
    torch.set_num_threads(threads)
    place = RankPlacement(rank=rank, ranks=ranks, threads=threads, device=_device(compute, rank, torch))
    if place.on_gpu:
        torch.cuda.set_device(place.device)
    return place


def _torch() -> ModuleType:
    """Import torch lazily: it takes seconds, and some encoders do not need it."""
    with importing():
        return importlib.import_module("torch")


def _device(compute: Compute, rank: int, torch: ModuleType) -> str:
    if compute.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{rank % torch.cuda.device_count()}"
    if compute.device == "cuda":
        raise BadInput("compute.device is 'cuda', but torch finds no CUDA device: set it to 'auto' or 'cpu'")
    return "cpu"


class Stopwatch:
    """Measures seconds per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 3)


class Agreement(Strict):
    """The precision and tuning that rank 0 chose for all ranks."""

    decision: Decision
    tuning: Tuning


class Start:
    """Loads the encoder in the precision and on the backend that rank 0 chooses for all ranks."""

    def __init__(self, assignment: Assignment, place: RankPlacement, group: ProcessGroup, watch: Stopwatch) -> None:
        self._assignment, self._place, self._group, self._watch = assignment, place, group, watch
        self._open: dict[tuple[Precision, Backend], LoadedEncoder] = {}
        self._row_seconds: dict[Precision, float | None] = {}  # measured by the comparison of precisions
        self._backend = _first_backend(assignment, place.device)
        self.measured: Tuning | None = None  # this rank's own measurement, to be stored

    def encoder(self) -> tuple[LoadedEncoder, EncoderFacts]:
        """Load the encoder; return it with its facts.

        Raises:
            BadInput: it cannot be loaded.
            AnotherFailed: it cannot be loaded on another rank.
            Permanent: the ranks loaded encoders of different dimensions.
        """
        error: KitestringError | AnotherFailed | None = None
        quantised_once = (
            self._assignment.precision == "int8" and self._backend == "openvino"
        )  # by rank 0 for all ranks, unless a quantised model is stored
        if self._place.rank == 0 or not quantised_once:
            error = self._attempt(partial(self._opened, expected_precision(self._assignment.precision, self._place.device), self._backend))
        if self._assignment.precision == "auto":
            error = None  # it may succeed in the precision that rank 0 chooses
        agreement: Agreement | None = None
        if self._place.rank == 0 and error is None:
            agreement, error = self._agreement()
        with self._watch.step("agree"):
            message = self._group.broadcast(agreement.model_dump_json() if agreement else "")  # "": rank 0 has failed
        agreement = Agreement.model_validate_json(message) if message else None
        if error is None and agreement is not None:
            error = self._attempt(partial(self._opened, agreement.decision.precision, agreement.tuning.backend))
        with self._watch.step("agree"):
            failed = sum(self._group.gather(0 if error is None and agreement is not None else 1))
        if error is not None:
            raise error
        if failed or agreement is None:
            raise AnotherFailed
        return self._adopt(agreement)

    def _agreement(self) -> tuple[Agreement | None, KitestringError | AnotherFailed | None]:
        """Choose precision, backend and batch size for all ranks; return the error if that fails."""
        try:
            if self._assignment.precision in {"int8", "float8"}:
                decision = decide_eight_bits(self._assignment.precision, *self._compare_eight_bits(self._assignment.precision))
            else:
                decision = decide(self._assignment.precision, self._place.device, self._compare)
            return Agreement(decision=decision, tuning=self._assignment.tuning or self._tuned(decision.precision)), None
        except KitestringError as error:
            return None, error

    def _tuned(self, precision: Precision) -> Tuning:
        """Measure backends and batch sizes if there is enough work to repay it."""
        encoder, sample = self._opened(precision, self._backend), sample_rows(self._assignment)
        races = self._assignment.compute.backend == "auto" and self._may_use_openvino(precision)
        worth, known = WORTH_BACKENDS if races else WORTH_TOKENS, self._row_seconds.get(precision)
        with self._watch.step("measure"):
            if not worth_measuring(encoder, sample, self._assignment.rows, self._place.ranks, seconds=worth, at_most=known):
                return Tuning(backend=self._backend)
            tuned: dict[Backend, TunedBatch] = {self._backend: tune_batches(encoder, sample)}
        remark = ""
        if races:
            try:
                tuned = self._against_openvino(precision, sample, tuned["torch"])
            except Fatal:
                raise
            except BadInput as error:
                remark = str(error)
            except Exception as error:  # noqa: BLE001 - torch runs models that OpenVINO cannot
                remark = f"openvino is not used: {first_line(error)}"
        fastest = min(measured.row_seconds for measured in tuned.values())
        remarks = (remark, self._int8_remark(precision, sample, fastest))
        self.measured = choose_backend(tuned, "; ".join(filter(None, remarks)))
        return self.measured

    def _int8_remark(self, precision: Precision, sample: pa.Table, row_seconds: float) -> str:
        """Recommend int8 if it halves the time and no other precision helps. Only for long work: quantising takes a while."""
        a = self._assignment
        only_float32 = a.precision == "auto" and precision == "float32" and not native_bfloat16(self._place.device)
        if not only_float32 or not self._may_use_openvino(precision) or find_spec("nncf") is None:
            return ""
        if a.rows is None or row_seconds * a.rows / self._place.ranks < WORTH_INT8:
            return ""
        try:
            with self._watch.step("measure"):
                return int8_remark(self._unsaved_int8(), self._opened("float32", "torch"), sample, row_seconds)
        except Fatal:
            raise
        except Exception:  # noqa: BLE001 - the remark is optional, and some models cannot be quantised
            return ""

    def _unsaved_int8(self) -> LoadedEncoder:
        a, place = self._assignment, replace(self._place, int8=lambda make: make(self._assignment.sample))
        return open_encoder(a.encoder, model_path=a.model_path, precision="int8", compute=a.compute, place=place, backend="openvino")

    def _against_openvino(self, precision: Precision, sample: pa.Table, torch_batch: TunedBatch) -> dict[Backend, TunedBatch]:
        ours, openvino = self._opened(precision, "torch"), self._opened(precision, "openvino")
        with self._watch.step("measure"):
            lowest = float(sample_cosines(ours, openvino, self._sample).min(initial=1.0))
            if lowest < LOWEST_COSINE:
                raise BadInput(f"openvino is not used: its lowest cosine to torch is {lowest:.5f}, below {LOWEST_COSINE}")
            tuned: dict[Backend, TunedBatch] = {"torch": torch_batch, "openvino": tune_batches(openvino, sample)}
            return compare_backends({"torch": ours, "openvino": openvino}, tuned, sample)

    def _may_use_openvino(self, precision: Precision) -> bool:
        if precision in {"int8", "float8"} or self._place.sharing is not None:
            return False  # these have one backend each
        known = "openvino" in ENCODERS[self._assignment.encoder.kind].backends
        return known and not self._place.on_gpu and precision != "float16" and find_spec("openvino") is not None

    def _adopt(self, agreement: Agreement) -> tuple[LoadedEncoder, EncoderFacts]:
        decision, tuning = agreement.decision, agreement.tuning
        encoder = self._open.pop((decision.precision, tuning.backend))
        for other in self._open.values():
            other.close()
        self._open.clear()
        if tuning.batch_tokens:
            encoder.set_batch_tokens(tuning.batch_tokens)
        facts = encoder.facts()
        note = "; ".join(filter(None, (decision.note, tuning.note, facts.note)))
        facts = facts.model_copy(update={**decision.model_dump(exclude={"precision"}), "note": note})
        with self._watch.step("agree"):
            dims = self._group.gather(facts.dim)
        if len(set(dims)) > 1:
            raise Permanent(f"the ranks have loaded encoders of different dimensions: {dims}")
        return encoder, facts

    def _attempt(self, load: Callable[[], object]) -> KitestringError | AnotherFailed | None:
        """Load and return the error, if any. It is raised once every rank knows of it, so that no rank waits for one that has exited."""
        try:
            load()
        except (KitestringError, AnotherFailed) as error:
            return error
        return None

    def _opened(self, precision: Precision, backend: Backend) -> LoadedEncoder:
        if (precision, backend) not in self._open:
            a = self._assignment
            if precision == "int8":
                check_same_int8(a, backend)
            with self._watch.step("import"):
                import_library(a.encoder.kind)
            compute = a.compute if a.modality == "image" else a.compute.model_copy(update={"num_workers": 0})  # these workers decode images
            with self._watch.step("load"):
                self._open[precision, backend] = open_encoder(
                    a.encoder, model_path=a.model_path, precision=precision, compute=compute, place=self._place, backend=backend
                )
        return self._open[precision, backend]

    def _compare(self) -> Any:
        """Return bfloat16's cosines to float32 for rows and queries: a model may have a tower for each."""
        exact = self._opened("float32", "torch")  # a failure here is a failure in bfloat16, too
        try:
            opened = self._opened("bfloat16", self._backend)
            fast = Metered(opened)
            with self._watch.step("check"):
                cosines = sample_cosines(exact, fast, self._sample)
                cosines_of_queries = query_cosines(exact, opened)
        except Fatal:
            raise
        except Exception as error:
            raise Bfloat16Failed(first_line(error)) from error
        self._row_seconds["bfloat16"] = fast.row_seconds
        return np.concatenate([cosines, cosines_of_queries]) if len(cosines) else cosines

    def _compare_eight_bits(self, precision: Precision) -> tuple[Any, str]:
        """Return cosines to float32 for rows, as queries are embedded in float32; none, and the reason, if a GPU cannot hold both models."""
        fast = self._opened(precision, self._backend)
        try:
            exact = self._opened("float32", "torch")
            with self._watch.step("check"):
                return sample_cosines(exact, fast, self._sample), "there was no sample"
        except (BadInput, OutOfMemory) as error:
            if not self._place.on_gpu:
                raise
            return np.zeros(0), f"there was no room ({first_line(error)})"

    def _sample(self, encoder: LoadedEncoder) -> Work:
        return encoder.prepare(sample_rows(self._assignment))


def _first_backend(assignment: Assignment, device: str) -> Backend:
    """Return the job's setting or an earlier measurement; else torch, the reference. int8 and sharded weights have one backend each."""
    setting = assignment.compute.backend
    if assignment.precision == "int8":
        return int8_backend(setting, device)
    if setting != "auto":
        return setting
    if assignment.compute.model_parallel != "off":
        return "torch"
    return assignment.tuning.backend if assignment.tuning else "torch"


def sample_rows(assignment: Assignment) -> pa.Table:
    """Return the sample as a table with the schema of `tasks.adapters.rows.row_schema`."""
    sample = list(assignment.sample)
    if assignment.modality == "text":
        return pa.table({"text": pa.array(sample, pa.string())})
    return pa.table({"image": pa.nulls(len(sample), pa.large_binary()), "image_uri": pa.array(sample, pa.string())})
