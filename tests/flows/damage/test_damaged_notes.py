"""Documents that are damaged at awkward moments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.commands.inspect import look_at_status
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import write_rows
from tests.builders.memory_jobs import a_job, keys_in, ledger
from tests.builders.runs import ids

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.mark.parametrize("entry", ["there", "gone", "damaged as well"])
@pytest.mark.parametrize("planned", [True, False])
def test_an_intent_that_is_damaged(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, entry: str, planned: bool) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 10, number * 10 + 10)
    job = a_job(tmp_path, tiny_model)
    run_flow(job)
    (path,) = [path for path in ledger(job, "*.json") if len(path.name) > 36 and json.loads(path.read_text())["group"] == "0.parquet"]
    path.with_name(f"{path.stem}.intent.json").write_bytes(b"{")
    if entry == "gone":
        path.unlink()
    elif entry == "damaged as well":
        path.write_bytes(b"")
    if not planned:
        (tmp_path / "rows" / "0.parquet").unlink()
    result = run_flow(job)
    assert (result["verified"], keys_in(job)) == (True, sorted(ids(0, 20)))
    assert look_at_status(parse_job(job)).complete
    result = run_flow(job)
    assert (result["verified"], result["rows"]["removed"], keys_in(job)) == (True, 0, sorted(ids(0, 20)))
