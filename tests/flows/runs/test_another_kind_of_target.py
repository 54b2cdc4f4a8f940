"""A target that no line of flows and tasks knows of: one file, a line in the registry, and whole jobs go into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.commands.garbage_collect import sweep
from tasks.commands.inspect import look_at_diff, look_at_status
from tasks.commands.promote_by_hand import promote_by_hand, roll_back
from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.parse import parse_job
from tasks.domain.job.target import TARGETS
from tasks.stages.verify import look_at_proof
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, text_of, write_rows
from tests.builders.models import make_tiny_model
from tests.builders.more_kinds.dict_target import SHELVES, Shelf

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
ROWS = 40


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """One corpus with each of two models, into collections behind one alias."""
    monkeypatch.setitem(TARGETS.known, "dict", "tests.builders.more_kinds.dict_target:KIND")
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * ROWS, number * ROWS + ROWS)
    models = [make_tiny_model(tmp_path / f"model-{seed}", seed=seed) for seed in (21, 22)]
    target = {"kind": "dict", "shelf": tmp_path.name, "collection": "rows"}
    return [make_job(tmp_path, model, compute__processes=1, target=target) for model in models]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return SHELVES.setdefault(tmp_path.name, Shelf())


def served(shelf: Shelf) -> str:
    """The model that searches are led to."""
    return Path(shelf.kept[shelf.aliases["rows"]].spec.model).name


def test_a_whole_job_goes_into_it_is_proved_and_promoted_and_again_does_nothing(
    run_flow: RunFlow, documents: list[dict[str, Any]], shelf: Shelf
) -> None:
    first = run_flow(documents[0])
    assert (first["verified"], first["rows"]["embedded"], first["rows"]["loaded"]) == (True, 2 * ROWS, 2 * ROWS)
    assert list(shelf.aliases) == ["rows"]
    (kept,) = shelf.kept.values()
    assert {key: row["text"] for key, row in kept.rows.items()} == {f"row-{row}": text_of(row) for row in range(2 * ROWS)}

    again = run_flow(documents[0])
    assert (again["verified"], again["rows"]["embedded"], again["rows"]["reused"]) == (True, 0, 2 * ROWS)


def test_what_looks_at_it_and_searches_it_finds_what_was_sealed(run_flow: RunFlow, documents: list[dict[str, Any]], shelf: Shelf) -> None:
    run_flow(documents[0])
    job = parse_job(documents[0])
    assert look_at_status(job).complete
    proof = look_at_proof(job, full=True)
    assert (proof.proved, proof.exact, proof.compared) == (True, True, 2 * ROWS)
    with Searcher(job) as searcher:
        assert searcher.search(text_of(7), 1)[0].id == "row-7"
    (kept,) = shelf.kept.values()
    del kept.rows["row-7"]
    with look_at_diff(job) as differences:
        assert [(each.key, each.only_in) for each in differences.found] == [("row-7", "source")]
    assert run_flow(documents[0], "flows.repair.repair_from_seals")["verified"] is True
    assert "row-7" in kept.rows


def test_a_new_model_takes_over_and_is_rolled_back(run_flow: RunFlow, documents: list[dict[str, Any]], shelf: Shelf) -> None:
    old, new = documents
    run_flow(old)
    assert served(shelf) == "model-21"
    assert run_flow(new)["verified"] is True
    assert (served(shelf), len(shelf.kept)) == ("model-22", 2)
    roll_back(parse_job(new))
    assert served(shelf) == "model-21"
    promote_by_hand(parse_job(new))
    assert served(shelf) == "model-22"
    assert sweep(parse_job(new), delete=True).collections == ()


def test_what_it_cannot_do_is_said_before_anything_is_written(
    run_flow: RunFlow, documents: list[dict[str, Any]], shelf: Shelf, tmp_path: Path
) -> None:
    document = documents[0]
    with pytest.raises(BadInput, match=r"target\.load: a target of kind dict has no import"):
        run_flow({**document, "target": {**document["target"], "load": "import"}})
    assert not shelf.kept
    with pytest.raises(BadInput, match=r"'target\.uri' is not a setting"):
        parse_job({**document, "target": {**document["target"], "uri": "./rows.db"}})
    assert not list(tmp_path.glob("checkpoint/**/*.parquet"))


def test_its_settings_are_a_kind_of_the_schema_as_well(documents: list[dict[str, Any]]) -> None:
    tabs = Job.model_json_schema()["properties"]["target"]["anyOf"]
    assert {tab["properties"]["kind"]["const"] for tab in tabs} == {"milvus", "dict"}
