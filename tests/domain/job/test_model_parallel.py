"""Which jobs can share a model's weights among processes, and what the setting changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.adapters.processes.hardware import Launch, machine_digest
from tasks.domain.job.job import Compute, Job

TEXTS = {"kind": "sentence-transformers", "precision": "float32"}
SHARED = {"model_parallel": "fsdp"}


def test_a_text_model_of_a_named_precision_can_be_shared() -> None:
    assert Job.model_validate({"encoder": TEXTS, "compute": SHARED}).compute.model_parallel == "fsdp"


@pytest.mark.parametrize(
    ("encoder", "compute", "told"),
    [
        ({"kind": "sentence-transformers"}, {}, "precision auto would load the whole model: set encoder.precision to float32"),
        ({**TEXTS, "precision": "int8"}, {}, "precision int8 would load the whole model"),
        ({**TEXTS, "precision": "float8"}, {}, "precision float8 would load the whole model"),
        (TEXTS, {"backend": "openvino"}, "computes with torch: set compute.backend to auto or torch"),
        ({"kind": "sparse"}, {}, "an encoder of kind 'sparse' cannot be split among processes: use kind 'sentence-transformers'"),
        ({"kind": "open-clip"}, {}, "an encoder of kind 'open-clip' cannot be split"),
        ({"kind": "served", "url": "http://127.0.0.1:1", "model": "m"}, {}, "an encoder of kind 'served' cannot be split"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_setting_to_change(encoder: dict[str, Any], compute: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=f"compute.model_parallel fsdp.*{told}"):
        Job.model_validate({"encoder": encoder, "compute": {**SHARED, **compute}})


def test_measurements_are_kept_apart_and_earlier_ones_go_on() -> None:
    launch = Launch(ranks=2, threads=1, device="cpu")
    settings = Compute().model_dump(include={"backend", "batch_tokens", "batch_rows"})
    assert set(settings) == {"backend", "batch_tokens", "batch_rows"}
    assert machine_digest(Compute(), launch) != machine_digest(Compute(model_parallel="fsdp"), launch)
