"""A source and an encoder that a test brings along run a whole job: plan, encode, seal, load, verify, search; and do nothing again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.commands.search import ask
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow

pytestmark = [pytest.mark.server, pytest.mark.timeout(300), pytest.mark.usefixtures("more_kinds")]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text("\n".join(["a heading", *(name * number for number in range(1, 21)), ""]))
    return {
        "corpus": "letters",
        "source": {"kind": "lines", "uri": str(tmp_path), "skip": 1},
        "encoder": {"kind": "letters"},
        "checkpoint": str(tmp_path / "checkpoint"),
        "target": {"uri": str(tmp_path / "letters.db"), "collection": "letters"},
    }


def test_a_job_of_two_kinds_that_were_registered_ends_in_a_proved_collection(run_flow: RunFlow, document: dict[str, Any]) -> None:
    first, again = run_flow(document), run_flow(document)
    assert (first["rows"]["source"], first["rows"]["embedded"], first["verified"]) == (60, 60, True)
    assert (again["rows"]["embedded"], again["rows"]["reused"], again["verified"]) == (0, 60, True)
    (hit,) = ask(parse_job(document), 1, text="bbbbbbbbbbbbbbbbbbbb")
    assert hit.id == "b.txt:19"
    with pytest.raises(BadInput, match="an encoder of kind 'letters' embeds text only"):
        ask(parse_job(document), 1, picture="cat.jpg")


def test_a_dry_run_samples_and_estimates_such_a_job(run_flow: RunFlow, document: dict[str, Any]) -> None:
    estimate = run_flow(document, dry_run=True)["estimate"]
    assert (estimate["rows"]["expected"], estimate["tokens"], estimate["rate"]["unit"]) == (60, None, "rows")
    assert estimate["checkpoint_bytes"]["low"] > 0
