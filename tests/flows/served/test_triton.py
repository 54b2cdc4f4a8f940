"""A real Triton: a whole job, and another model in the place of the first. `make served` installs it and runs this."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tasks.adapters.served.row_isolation import embed_batch
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.parse import parse_job
from tests.builders.engines.triton import TRITON, triton
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import text_of, write_rows
from tests.builders.memory_jobs import a_job, keys_in
from tests.builders.models import HIDDEN, make_tiny_model
from tests.builders.runs import ids, vectors_in
from tests.servers.s3 import free_port

pytestmark = [pytest.mark.skipif(not TRITON, reason="make served"), pytest.mark.server, pytest.mark.timeout(900)]
ROWS = 200


def test_rows_get_the_librarys_vectors_and_another_model_in_its_place_ends_a_run(
    run_flow: RunFlow, tiny_model: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows" / "0.parquet", 0, ROWS)
    port = free_port()
    with triton(tiny_model, port, tmp_path) as encoder:
        job = a_job(tmp_path, tmp_path, encoder=encoder)
        result = run_flow(job)
        model = ServedModel(cast("ServedEncoder", parse_job(job).encoder))
        assert model.facts().dim == HIDDEN
    assert (result["rows"]["embedded"], result["verified"]) == (ROWS, True)
    found = vectors_in(tmp_path / "checkpoint")
    texts = [text_of(int(key.removeprefix("row-"))) for key in found]
    exact = SentenceTransformer(str(tiny_model), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(np.array(list(found.values())), exact, atol=1e-4)

    write_rows(tmp_path / "rows" / "1.parquet", ROWS, 2 * ROWS)
    with triton(make_tiny_model(tmp_path / "other", seed=99), port, tmp_path):
        with pytest.raises(Permanent, match="serves another model"):
            embed_batch(model, texts[:8], HIDDEN)
        model.close()
        with pytest.raises(BadInput, match=r"set encoder\.revision to a new name"):
            run_flow(job)
    assert keys_in(job) == sorted(ids(0, ROWS))
