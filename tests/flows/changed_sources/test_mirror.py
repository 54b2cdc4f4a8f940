"""A mirror ends equal to its source, never misses a row meanwhile, and does not follow a source that was lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pymilvus import MilvusClient
from typer.testing import CliRunner

from flows.command_line.cli import app
from tasks.domain.errors import BadInput, RunFailed
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.chaos.mirror import play, rows_in

commands = CliRunner()
pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_rounds_of_random_edits_leave_the_collection_equal_to_the_source(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """`python -m tests.chaos.mirror` plays twenty of them."""
    assert len(list(play(run_flow, tmp_path, tiny_model, rounds=3, seed=1))) == 3


def test_what_one_side_lacks_is_listed_by_key(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    document = make_job(tmp_path, tiny_model)
    run_flow(document)
    job = tmp_path / "job.json"
    job.write_text(json.dumps(document))
    same = commands.invoke(app, ["diff", str(job), "--json"])
    assert (same.exit_code, json.loads(same.stdout)) == (0, [])
    assert commands.invoke(app, ["verify", str(job), "--full"]).exit_code == 0

    client = MilvusClient(document["target"]["uri"])
    client.load_collection("rows")
    (row,) = client.query("rows", filter='id == "row-3"', output_fields=["*"])
    client.upsert("rows", [{**row, "id": "strange"}])
    client.delete("rows", ids=["row-3"])
    client.close()
    (tmp_path / "rows" / "1.parquet").unlink()  # an append keeps its rows
    other = commands.invoke(app, ["diff", str(job)])
    assert other.exit_code == 4, other.output
    found = [line.split("  ") for line in other.stdout.splitlines()]
    assert found[0][0] == "- row-3"
    assert found[1][0] == "+ strange"
    assert found[0][1].startswith("(0.parquet")
    assert len(found) == 2
    proof = commands.invoke(app, ["verify", str(job), "--full"])
    assert proof.exit_code == 4
    assert "and other keys" in proof.stdout


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
