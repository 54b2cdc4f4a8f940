"""What runs are called: `flows.run_names`."""

from __future__ import annotations

import re
from types import SimpleNamespace

import coolname
import pytest
from prefect.context import FlowRunContext

from flows.run_names import made_up, named
from tasks.domain.job.job import Job


@pytest.mark.parametrize("name", ["sigma75-virginis", "pi5-gedi", "alpha-canis-majoris", *(coolname.generate_slug(2) for _ in range(50))])
def test_names_that_prefect_makes_up_are_known(name: str) -> None:
    assert made_up(name)


@pytest.mark.parametrize("name", ["monday", "before the release", "nightly-docs", "docs-v2", "Stoic-Bison", "beta", "the third try"])
def test_names_that_a_person_gave_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not made_up(name)
    assert called(monkeypatch, name) == name
    assert called(monkeypatch, name, dry_run=True) == name


def test_a_made_up_name_gives_way_to_the_corpus_what_is_done_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    when = r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re_match("docs" + when, called(monkeypatch, "stoic-bison"))
    assert re_match("docs dry run" + when, called(monkeypatch, "stoic-bison", dry_run=True))
    assert re_match("docs replay" + when, called(monkeypatch, "pi5-gedi", what="replay"))
    assert re_match("other" + when, called(monkeypatch, "stoic-bison", overrides={"corpus": "other"}))
    assert re_match("jobs/a.yaml" + when, called(monkeypatch, "stoic-bison", job=None, job_file="jobs/a.yaml"))


def re_match(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def called(monkeypatch: pytest.MonkeyPatch, given: str, what: str = "", **parameters: object) -> str:
    """The name of a run that Prefect, or a person, called so."""
    run = SimpleNamespace(flow_run=SimpleNamespace(name=given), parameters={"job": Job(corpus="docs"), **parameters})
    monkeypatch.setattr(FlowRunContext, "get", lambda: run)
    return named(what)()
