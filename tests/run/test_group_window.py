"""A group goes through its steps, and what one of them ended in is told as it was."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.domain.errors import Permanent
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole, name_shard
from tasks.run import group_window
from tasks.run.group_window import Window, threads
from tests.servers.prefect import PrefectServer

pytestmark = pytest.mark.server


def group(name: str) -> list[Shard]:
    span = Span(files=(FileVersion(path=name, name=name, size=1, version="1"),), extent=Whole(), rows=1)
    return [name_shard(span, rows_as={}, fingerprint="f")]


def test_every_group_is_finished_with_the_first_error_of_its_steps_or_none(prefect_server: PrefectServer) -> None:
    finished: dict[str, Exception | None] = {}
    steps: list[str] = []
    over = threading.Event()

    @task(cache_policy=NO_CACHE)
    def first(shards: list[Shard]) -> None:
        steps.append(f"first {shards[0].name}")
        if shards[0].name == "bad":
            raise Permanent("the first step's reason")

    @task(cache_policy=NO_CACHE)
    def second(shards: list[Shard]) -> None:
        steps.append(f"second {shards[0].name}")
        if shards[0].name == "last":
            assert over.wait(60), "the first step is over, and nobody was told while the second goes on"
        if shards[0].name == "late":
            raise Permanent("the second step's reason")

    @flow(task_runner=threads(8))
    def through() -> None:
        def finish(shards: list[Shard], error: Exception | None) -> None:
            finished[shards[0].name] = error

        window = Window(first.submit, second.submit, width=2, finish=finish, first_over=over.set)
        for name in ("good", "bad", "late", *(f"more {number}" for number in range(12)), "last"):
            window.push(group(name))
        window.drain()

    with temporary_settings({PREFECT_API_URL: prefect_server.api}):
        through()
    told: dict[str, Any] = {name: str(error) for name, error in finished.items() if error}
    assert told == {"bad": "the first step's reason", "late": "the second step's reason"}
    assert len(finished) == 16
    assert len(steps) == 32


def test_a_slow_last_step_does_not_hold_up_the_first(prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts encode while what they have sealed waits to be loaded; so many shards wait, and no more."""
    monkeypatch.setattr(group_window, "MOST_WAITING", 8)
    encoded: list[str] = []
    loading = Counter[str]()
    enough = threading.Event()

    @task(cache_policy=NO_CACHE)
    def first(shards: list[Shard]) -> None:
        encoded.append(shards[0].name)
        if len(encoded) >= 8:
            enough.set()

    @task(cache_policy=NO_CACHE)
    def second(shards: list[Shard]) -> None:
        assert enough.wait(60), "the first step has waited for this one"
        loading["now"] += 1
        loading["most"] = max(loading["most"], loading["now"])
        assert len(encoded) <= 8 + 3 + 2 + loading["done"], "what waits is bounded"
        loading["done"] += 1
        loading["now"] -= 1

    @flow(task_runner=threads(8))
    def through() -> None:
        Window(first.submit, second.submit, width=3, loads=1).run(group(f"{number}") for number in range(24))

    with temporary_settings({PREFECT_API_URL: prefect_server.api}):
        through()
    assert len(encoded) == loading["done"] == 24
    assert loading["most"] == 1
