"""A kind of encoder that a test brings along, which needs no torch."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.checkpoint.part_files import part_vectors, read_part
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.model_metadata import shape_of
from tasks.domain.encoder_identity import EncoderIdentity
from tasks.domain.encoding.protocol import Done, Hello, Piece
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.worker.encoders.registry import open_encoder
from tests.builders.more_kinds.registered import LETTERS
from tests.builders.worker.coordinator import Launch, write_rows

TEXTS = [f"the cat number {n}" for n in range(50)]
RANK = f"""
import sys, time
from pathlib import Path
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.job.encoder import ENCODERS
from tasks.worker.startup.session import serve

ENCODERS.known["letters"] = "{LETTERS}"
assignment = Path(sys.argv[1])
while not assignment.exists():
    time.sleep(0.02)
code = serve(Assignment.model_validate_json(assignment.read_text()))
sys.stderr.write("loaded: " + " ".join({{"torch", "transformers"}} & {{*sys.modules}}) + "\\n")
sys.exit(code)
"""


@pytest.fixture
def job(more_kinds: None) -> Job:
    return Job.model_validate({"encoder": {"kind": "letters", "letters": "ceht"}})


def test_a_whole_rank_of_an_encoder_without_torch_loads_no_torch(tmp_path: Path, job: Job) -> None:
    rows = write_rows(tmp_path / "rows.arrow", 0, {"text": TEXTS})
    piece = Piece(shard="s", first=0, stop=50, rows=str(rows), key="c/f/shards/s/a/part-000000000-000000050.parquet")
    launch = Launch(tmp_path, job.encoder, "", pieces=deque([piece]), precision="auto", command=[sys.executable, "-c", RANK])
    with launch:
        assert launch.wait() == 0, launch.log
    (hello,), (done,) = launch.said(Hello), launch.said(Done)
    assert (hello.facts.dim, done.part.rows) == (5, 50)
    assert "loaded: \n" in launch.log
    table, _ = read_part((tmp_path / "store" / piece.key).read_bytes())
    ours = open_encoder(job.encoder, model_path="", precision="float32")
    np.testing.assert_allclose(part_vectors(table), ours.encode(TEXTS), rtol=1e-6)


@pytest.mark.parametrize("module", ["tasks.worker.startup.session", "tasks.worker.encoders.registry", "tasks.worker.optimize.quality"])
def test_what_every_rank_imports_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout == "False\n"


def test_its_files_and_its_shape_are_its_own(job: Job) -> None:
    located = locate_model(job.encoder)
    assert located.revision is None
    assert shape_of(job.encoder, located).dim == 5


def test_a_backend_that_it_does_not_have_is_refused(job: Job) -> None:
    with pytest.raises(BadInput, match=r"compute\.backend openvino"):
        open_encoder(job.encoder, model_path="", precision="float32", backend="openvino")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "letters", "letters": "xyz"},
        {"kind": "sentence-transformers", "model": "m", "revision": "r", "prompt": "q: ", "truncate_dim": 8, "trust_remote_code": True},
        {"kind": "open-clip", "architecture": "ViT-L-14", "pretrained": "openai", "exact": True, "max_pixels": 99},
    ],
)
def test_the_settings_that_gave_an_identity_are_found_again(more_kinds: None, settings: dict[str, object]) -> None:
    encoder = Job.model_validate({"encoder": {**settings, "precision": "float32"}, "source": {"text": "body"}}).encoder
    identity = EncoderIdentity(
        kind=encoder.kind,
        model=encoder.model_name,
        revision=settings.get("revision"),
        weights="w",
        preprocessing=encoder.preprocessing,
        precision="float32",
    )
    assert ENCODERS[identity.kind].settings.restored(identity, like=encoder) == encoder
