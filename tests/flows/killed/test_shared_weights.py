"""Ranks that hold one model together: rows that break it, and the death of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from tests.builders.kitestring import Kitestring, make_job, text_of, workers_of
from tests.builders.runs import keys_in, parts_in, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]
ROWS, PART = 6_000, 100
BAD = {1_111: "boom", 2_222: "poison", 5_555: "flood"}


def test_kill_9_of_a_rank_that_lends_weights_costs_no_row(kitestring: Kitestring, tmp_path: Path, faulty_model: Path) -> None:
    texts = [f"it is {BAD[row]}" if row in BAD else text_of(row) for row in range(ROWS)]
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table({"id": [f"row-{row}" for row in range(ROWS)], "text": texts}), tmp_path / "rows" / "a.parquet")
    document = make_job(tmp_path, faulty_model, encoder__trust_remote_code=True, report__examples=0)
    document["compute"] |= {"model_parallel": "fsdp", "unsaved_rows": 2 * PART}
    run = kitestring.start("run", kitestring.job(document), "--json")
    until(lambda: len(parts_in(tmp_path / "checkpoint")) > 5, run)
    [*_, rank] = [p for p in workers_of(run.pid) if p.name().startswith("ks-rank-")]
    rank.kill()
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    assert f'"quarantined": {len(BAD)}' in out
    sound = [row for row in range(ROWS) if row not in BAD]
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(f"row-{row}" for row in sound)

    whole = SentenceTransformer(str(faulty_model), device="cpu", trust_remote_code=True, local_files_only=True)
    found = pa.concat_tables([pq.read_table(part, columns=["id", "vector"]) for part in parts_in(tmp_path / "checkpoint")]).slice(0, 500)
    expected = whole.encode([texts[int(key.as_py().removeprefix("row-"))] for key in found["id"]], batch_size=8, normalize_embeddings=True)
    vectors = np.stack(found["vector"].to_numpy())
    assert float((vectors * expected).sum(axis=1).min()) >= 0.99999
