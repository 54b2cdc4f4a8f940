"""Slots of a Prefect concurrency limit that a run waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasks.domain.job.engine import LocalEngineSettings, RayEngineSettings
from tasks.run import concurrency_limit
from tasks.run.concurrency_limit import turn
from tasks.run.progress import Journal


@pytest.mark.parametrize(
    ("engine", "slots", "words"),
    [
        (LocalEngineSettings(), 1, "a slot of the Prefect concurrency limit 'gpus'"),
        (RayEngineSettings(), 1, "a slot of"),
        (RayEngineSettings(hosts=3), 3, "3 slots, one for each host, of the Prefect concurrency limit 'gpus'"),
    ],
)
def test_a_run_on_n_hosts_holds_n_slots(
    engine: LocalEngineSettings | RayEngineSettings, slots: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, asked = Journal(), list[tuple[str, int]]()

    @contextmanager
    def concurrency(limit: str, *, occupy: int, **_: Any) -> Iterator[None]:
        asked.append((limit, occupy))
        if len(asked) == 1:
            raise TimeoutError
        assert words in journal.waits_for()
        yield

    monkeypatch.setattr(concurrency_limit, "concurrency", concurrency)
    with turn("gpus", journal, slots=engine.slots):
        assert not journal.waits_for()
    assert asked == [("gpus", slots)] * 2
