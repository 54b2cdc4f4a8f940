"""What was kept for a machine takes the place of a job's `auto`, and of nothing else."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.engines.torchrun_encoders import open_ranks
from tasks.adapters.engines.tuning.kept_settings import fill_auto, with_kept_settings
from tasks.adapters.engines.workplace import Workplace, open_workplace
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.processes.hardware import launch_for, machine_digest
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import KeptSettings, Tuning, kept_settings_key
from tasks.domain.job.job import Compute
from tasks.domain.job.parse import parse_job
from tests.builders.kitestring import make_job, write_rows

KEPT = KeptSettings(processes=3, threads=2, num_workers=1, tuning=Tuning(backend="torch", batch_tokens=512, note="tuned"))


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path) -> Workplace:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 5)
    document = make_job(tmp_path, tiny_model, checkpoint=f"memory://{secrets.token_hex(8)}", compute={"device": "cpu"})
    job = parse_job(document)
    spec = EncodingSpec(run="run", job=job, fields=(), weights=locate_model(job.encoder).weights, declared="d" * 32)
    return open_workplace(spec, scratch=tmp_path, tell=lambda _: None)


def keep(place: Workplace, kept: KeptSettings = KEPT) -> None:
    job = place.job
    key = kept_settings_key(job.corpus, place.spec.declared, machine_digest(job.compute, launch_for(job)))
    write_document(place.store, key, kept)


def test_a_run_takes_what_was_kept_for_its_machine(place: Workplace) -> None:
    keep(place)
    encoders = open_ranks(place)
    try:
        assignment = Assignment.model_validate_json((place.scratch / "assignment.json").read_text())
        assert encoders.pace.ranks == 3
        assert (assignment.compute.threads, assignment.tuning) == (2, KEPT.tuning)
        assert not assignment.tuning_key
    finally:
        encoders.close()


def test_nothing_kept_changes_nothing(place: Workplace) -> None:
    assert with_kept_settings(place) == (place, None)


def test_what_was_kept_for_other_settings_of_the_job_is_not_taken(place: Workplace) -> None:
    keep(place)
    compute = place.job.compute.model_copy(update={"batch_tokens": 64})
    other = place.spec.model_copy(update={"job": place.job.model_copy(update={"compute": compute})})
    moved = open_workplace(other, scratch=place.scratch, tell=lambda _: None, store=place.store)
    assert with_kept_settings(moved)[1] is None


def test_only_auto_is_filled_and_ranks_go_with_their_threads() -> None:
    assert fill_auto(Compute(), KEPT) == Compute(processes=3, threads=2, num_workers=1)
    assert fill_auto(Compute(processes=1, num_workers=0), KEPT) == Compute(processes=1, num_workers=0)
