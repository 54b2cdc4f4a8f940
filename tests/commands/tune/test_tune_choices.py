"""What a sweep tries: the precisions that a kind of encoder knows and a machine may compute."""

from __future__ import annotations

import pytest

from tasks.adapters.processes.hardware import Launch
from tasks.commands.tune import tune_choices
from tasks.commands.tune.tune_bench import TuneBench
from tasks.commands.tune.tune_choices import choices_for
from tasks.domain.job.job import Job

TEXTS, PICTURES = {"kind": "sentence-transformers"}, {"kind": "open-clip"}


@pytest.mark.parametrize(
    ("encoder", "model_parallel", "installed", "eight_bits"),
    [
        (TEXTS, "off", True, ("int8", "float8")),
        (TEXTS, "off", False, ("float8",)),
        ({**TEXTS, "precision": "float32"}, "fsdp", True, ()),
        (PICTURES, "off", True, ()),
    ],
)
def test_on_gpus_8_bits_are_tried_for_texts_that_one_card_holds(
    monkeypatch: pytest.MonkeyPatch, encoder: dict[str, str], model_parallel: str, installed: bool, eight_bits: tuple[str, ...]
) -> None:
    monkeypatch.setattr(tune_choices, "find_spec", lambda _name: object() if installed else None)
    source = {"kind": "images"} if encoder is PICTURES else {"kind": "parquet"}
    job = Job.model_validate({"source": source, "encoder": encoder, "compute": {"model_parallel": model_parallel}})
    launch = Launch(ranks=2, threads=1, device="cuda")
    found = choices_for(_Bench(job, launch))
    assert found.precisions == ("float32", "bfloat16", "float16", *eight_bits)
    assert found.int8_by == "torch"


class _Bench(TuneBench):
    """A job on a launch; it is asked nothing else."""

    def __init__(self, job: Job, launch: Launch) -> None:
        self._job, self.launch, self.memory = job, launch, None

    @property
    def job(self) -> Job:
        return self._job
