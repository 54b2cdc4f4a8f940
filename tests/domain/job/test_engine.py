"""Which machines encode is a setting by `kind`, and no part of what a shard is."""

from __future__ import annotations

from typing import Literal

import pytest

from tasks.adapters.processes.hardware import Launch, machine_digest
from tasks.domain.errors import BadInput
from tasks.domain.job.engine import ENGINES, EngineKind, EngineSettings, LocalEngineSettings
from tasks.domain.job.job import Compute, Job
from tasks.domain.job.parse import override, parse_job


class FarSettings(EngineSettings):
    kind: Literal["far"] = "far"
    address: str = "here"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind with a setting of its own."""
    monkeypatch.setitem(ENGINES.known, "far", EngineKind(settings=FarSettings, opens="nowhere:Nothing"))


@pytest.mark.parametrize("engine", [{}, {"kind": "local"}])
def test_it_is_local_without_asking(engine: dict[str, str]) -> None:
    job = parse_job({"compute": {"engine": engine}})
    assert job == parse_job({})
    assert job.compute.engine == LocalEngineSettings()
    assert Job.model_validate_json(job.model_dump_json()) == job


@pytest.mark.usefixtures("far")
def test_a_registered_kind_has_its_own_settings_and_keeps_them() -> None:
    job = override(parse_job({}), {"compute.engine.kind": "far", "compute.engine.address": "there"})
    assert job.compute.engine == FarSettings(address="there")
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert override(job, {"compute.engine.kind": "local"}) == parse_job({})


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ({"kind": "farr"}, "'compute.engine.kind' is 'farr', it must be one of 'local', 'ray'"),
        ({"kind": "local", "address": "x"}, "'compute.engine.address' is not a setting"),
        ("far", "'compute.engine' must be a mapping of settings"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(engine: object, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_job({"compute": {"engine": engine}})
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_form_shows_each_kind_by_its_name() -> None:
    shown = Compute.model_json_schema()["properties"]["engine"]["anyOf"]
    assert [(kind["title"], kind["properties"]["kind"]["const"]) for kind in shown] == [(name, name) for name in ENGINES]


@pytest.mark.usefixtures("far")
def test_a_choice_of_kinds_is_a_choice_in_the_form() -> None:
    choices = Compute.model_json_schema()["properties"]["engine"]["anyOf"]
    assert len(choices) == len(ENGINES.known)


@pytest.mark.usefixtures("far")
def test_what_is_known_of_a_machines_speed_does_not_depend_on_it() -> None:
    launch = Launch(ranks=2, threads=1, device="cpu")
    here, there = (Compute.model_validate({"engine": {"kind": kind}}) for kind in ("local", "far"))
    assert machine_digest(here, launch) == machine_digest(there, launch)
