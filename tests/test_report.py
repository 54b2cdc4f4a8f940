"""A report's figures, apart from a run."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.domain.job import Job
from tasks.plan import Plan
from tasks.report import figures_of
from tasks.totals import Totals


def test_a_report_can_be_written_from_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after all the work: `python -m flows` needs no installation until then either."""
    found = importlib.metadata.distribution

    def look(name: str) -> Any:
        if name == "kitestring":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", look)
    job = Job.model_validate({"corpus": "a", "source": {"kind": "jsonl", "uri": "a"}, "encoder": {}})
    plan = SimpleNamespace(
        job=job,
        record=SimpleNamespace(identity=None, facts=None),
        spec=SimpleNamespace(name="c", alias="a"),
        spool=SimpleNamespace(shards=0),
    )
    versions = figures_of(cast("Plan", plan), Totals(), failed=0)["versions"]
    assert versions["kitestring"] == "not installed"
    assert versions["pymilvus"] == found("pymilvus").version
