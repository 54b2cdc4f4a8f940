"""A mirror ends equal to its source, never misses a row meanwhile, and does not follow a source that was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.domain.errors import BadInput, RunFailed
from tests.chaos.mirror import play, rows_in
from tests.flows.inprocess import RunFlow
from tests.flows.kitestring import make_job, write_rows

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_rounds_of_random_edits_leave_the_collection_equal_to_the_source(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """`python -m tests.chaos.mirror` plays twenty of them."""
    assert len(list(play(run_flow, tmp_path, tiny_model, rounds=3, seed=1))) == 3


def test_a_source_that_lost_much_removes_nothing_until_it_is_allowed_to(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(3):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 10, number * 10 + 10)
    job = make_job(tmp_path, tiny_model, target__mode="mirror")
    run_flow(job)
    for number in (1, 2):
        (tmp_path / "rows" / f"{number}.parquet").unlink()

    with pytest.raises(RunFailed, match=r"20 of the collection's 30 rows \(67%\).*target\.max_shrink.*allow_shrink: true"):
        run_flow(job)
    assert len(rows_in(job["target"]["uri"], "rows")) == 30

    run_flow(make_job(tmp_path, tiny_model, target__mode="mirror", target__max_shrink=0.7))
    assert len(rows_in(job["target"]["uri"], "rows")) == 10

    (tmp_path / "rows" / "0.parquet").unlink()
    write_rows(tmp_path / "rows" / "3.parquet", 90, 90)
    with pytest.raises(BadInput, match=r"source\.uri"):
        run_flow(make_job(tmp_path, tiny_model, target__mode="mirror", target__allow_shrink=True))
    assert len(rows_in(job["target"]["uri"], "rows")) == 10
