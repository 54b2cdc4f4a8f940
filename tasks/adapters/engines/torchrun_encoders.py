"""Encoders for the kinds that load a model: ranks that torchrun starts on this machine's devices."""

from __future__ import annotations

import multiprocessing

from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.engines.tuning.kept_settings import with_kept_settings
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch, device_names, launch_for, machine_digest
from tasks.adapters.sources.registry import rows_at_least, sample_texts
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import Tuning, int8_backend, quantized_key, tuning_key
from tasks.domain.errors import BadInput, Newer
from tasks.domain.job.job import Job
from tasks.domain.job.references import References
from tasks.domain.ports import Encoders

SAMPLE_ROWS = 32  # for the trial of `precision: auto`
CALIBRATION_ROWS = 256  # for OpenVINO to choose the ranges of int8
FEW_ROWS = 1_000  # a corpus of fewer rows is never tuned


def open_ranks(place: Workplace) -> Encoders:
    """Ranks for a run's encoder; starts none.

    Raises:
        BadInput: the model is missing on this machine or differs from the run's, or processes cannot share locks (/dev/shm).
    """
    _check_shared_memory()
    place, tuned = with_kept_settings(place)
    job = place.job
    launch = launch_for(job)
    return Coordinator(
        _assign(place, launch, tuned),
        launch,
        place.scratch,
        stall_seconds=job.failures.stall_seconds,
        startup_seconds=job.failures.startup_seconds,
        devices=_devices(job, launch),
    )


def _check_shared_memory() -> None:
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        cure = "mount it writable (Docker: --shm-size; Kubernetes: an emptyDir of medium Memory)"
        raise BadInput(f"/dev/shm, where the encoder's processes share locks, cannot be used ({error}): {cure}") from error  # noqa: S108


def _devices(job: Job, launch: Launch) -> Devices:
    exclusive = launch.device == "cuda" if job.compute.exclusive == "auto" else job.compute.exclusive
    return Devices(device_names(launch) if exclusive else (), corpus=job.corpus)


def _assign(place: Workplace, launch: Launch, tuned: Tuning | None) -> Assignment:
    job, pinned = place.job, place.spec.pinned
    key = tuning_key(job.corpus, place.spec.declared, machine_digest(job.compute, launch))
    tuning, key = (tuned, "") if tuned else _earlier_tuning(place, key)
    rows = rows_at_least(place.source)
    eight_bits = job.encoder.precision in {"int8", "float8"}
    calibrated = job.encoder.precision == "int8" and int8_backend(job.compute.backend, launch.device) == "openvino"
    sample_rows = CALIBRATION_ROWS if calibrated else SAMPLE_ROWS
    settled = pinned is not None or job.encoder.precision != "auto"
    return Assignment(
        encoder=job.encoder,
        model_path=_model_path(place),
        modality=job.source.modality,
        precision=pinned.identity.precision if pinned else job.encoder.precision,
        sample=()
        if settled and (tuning or rows < FEW_ROWS) and not eight_bits
        else tuple(sample_texts(place.source, sample_rows, folder=place.scratch)),
        tuning=tuning,
        tuning_key=key,
        quantized_key=quantized_key(job.corpus, place.spec.declared) if calibrated else "",
        quantized=pinned.facts.quantized if pinned and not place.spec.dry else "",
        rows=rows,
        compute=job.compute,
        store=place.parts,
        fields=place.spec.fields,
        store_text=job.target.store_text and job.source.modality == "text",
        references=References(root=place.source.root, opened=job.source.opened),
        socket=str(place.scratch / "ranks.sock"),
        startup_seconds=job.failures.startup_seconds,
    )


def _model_path(place: Workplace) -> str:
    model = place.model or locate_model(place.job.encoder)
    if not model.is_model_of(place.spec.weights):
        raise BadInput(
            f"encoder: the model files on this machine ({model.path}) differ from those that the run began with: make them the same"
        )
    return model.path


def _earlier_tuning(place: Workplace, key: str) -> tuple[Tuning | None, str]:
    """The measurements of an earlier run, and the key to store new ones under; "" if a newer version's document is there."""
    try:
        return read_document(place.store, key, Tuning, damages=place.damages), key
    except Newer:
        return None, ""
