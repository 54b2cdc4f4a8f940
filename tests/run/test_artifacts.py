"""What a person sees of a run's shards stays readable, however many there are."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.report.figures import RankWork
from tasks.domain.report.hosts import HostMoment, HostWork
from tasks.domain.shards.seal import EncodeStats, Loaded, Part, Seal
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole, name_shard
from tasks.run.artifacts import RankLines, shard_table
from tasks.run.context import Run
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan
from tasks.run.progress import SHARDS_NAMED, Journal
from tasks.stages import verify


def shard(name: str) -> Shard:
    span = Span(files=(FileVersion(path=name, name=name, size=1, version="1"),), extent=Whole(), rows=1)
    return name_shard(span, rows_as={}, fingerprint="f")


def seal(name: str, seconds: float) -> Seal:
    stats = EncodeStats(encode_seconds=seconds)
    part = Part(key="k", first=0, stop=9, rows=9, bytes=1, sha256="", stats=stats)
    counts: dict[str, Any] = {"source_rows": 9, "embedded": 9, "duplicates": 0, "quarantined": (), "dim": 1}
    return Seal(shard=name, name=name, group=name, run="r", attempt="a", parts=(part,), seconds=1, sealed_at="", **counts)


def test_of_thousands_of_shards_the_table_names_only_those_that_one_would_look_for() -> None:
    journal = Journal(shards=5_000)
    journal.expect(4_000, 36_000)
    for number in range(2_000):
        journal.note_seal(seal(f"sealed-{number}", seconds=number % 1_000), by_this_run=9, adopted=0)
    for number in range(1_500):
        journal.note_failure(shard(f"failed-{number}"), Permanent("line one\nline two " + "x" * 10_000, row=number))
    assert list(journal.failed_rows.values()) == list(range(1_500))
    journal.encoding = lambda: EncodingProgress(under_way=(UnderWay(rank=1, shard="busy", first=0, stop=1_000, done=512),))

    table = shard_table(journal.snapshot())
    counts = {row["state"]: row["shards"] for row in table if row["shards"]}
    assert counts == {
        "planned": "5,000",
        "complete before this run": "1,000",
        "sealed by this run": "2,000",
        "loaded by this run": "0",
        "failed": "1,500",
    }
    named = [row for row in table if row["shard"]]
    assert len(named) == 1 + SHARDS_NAMED + 1 + SHARDS_NAMED
    assert {"state": "in progress", "shards": "", "shard": "busy", "what": "rank 1: 512 of rows 0 to 999"} in named
    assert {"state": "slowest", "shards": "", "shard": "sealed-1999", "what": "999.0 s for 9 rows"} in named
    assert named[1]["shard"] == "failed-0"
    assert named[1]["what"].startswith("line one line two xxx")
    assert any(row["shard"] == f"and {1_500 - SHARDS_NAMED:,} more" for row in named)
    assert sum(len(cell) for row in table for cell in row.values()) < 10_000


def test_a_small_run_has_a_small_table() -> None:
    assert [row["state"] for row in shard_table(Journal(shards=1).snapshot())] == [
        "planned",
        "complete before this run",
        "sealed by this run",
        "loaded by this run",
        "failed",
    ]


def test_a_task_is_named_after_its_shards() -> None:
    name = name_runs("encode")
    assert name(parameters={"group": [shard("a")]}) == "encode a"
    assert name(parameters={"group": [shard("a"), shard("b"), shard("c")]}) == "encode a and 2 more"


def fails_at_the_third(journal: Journal, group: list[Shard]) -> None:
    with journal.emitting(group):
        for each in group[:2]:
            journal.note_seal(seal(each.id, seconds=1), by_this_run=9, adopted=0)
            journal.note_load(Loaded(shard=each.id, group="g", rows=9, seal="s", run="r", seconds=1, loaded_at=""))
        raise Permanent("the third")


def test_what_became_of_a_group_is_told_once_in_two_events() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    journal = Journal(emit=lambda what, payload: told.append((what, dict(payload))))
    group = [shard(name) for name in "abc"]
    with pytest.raises(Permanent):
        fails_at_the_third(journal, group)
    sealed = {"shard": group[0].id, "name": group[0].id, "rows": 18, "quarantined": 0, "shards": 2}
    assert told == [("shard.sealed", sealed), ("shard.loaded", {"shard": group[0].id, "rows": 18, "shards": 2})]
    with journal.emitting(group):
        pass
    assert len(told) == 2


def test_shards_that_failed_for_other_reasons_than_their_rows_are_not_told_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often one of them was refused."""
    monkeypatch.setattr(verify, "seals_of", lambda _: iter(()))
    journal = Journal(shards=2)
    run, plan = cast("Run", SimpleNamespace(journal=journal)), cast("Plan", None)
    for error in (BadInput("no key"), BadInput("no key")):
        journal.note_failure(shard("a"), error)
    with pytest.raises(BadInput, match="no key"):
        verify._refuse_bad_input(run, plan)
    journal.note_failure(shard("b"), Permanent("the store is full"))
    verify._refuse_bad_input(run, plan)


def test_lines_of_a_rank_carry_its_host_and_those_of_a_host_say_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    host = HostWork(
        host="gpu1", ranks=1, rows=500, seconds=10, encode_seconds=9, taken=2, moments=(HostMoment(seconds=0, state="at work"),)
    )
    encoding = EncodingProgress(
        work=(RankWork(rank=0, host="gpu1", parts=1, rows=500),),
        newest={"gpu1, rank 0": "a.parquet"},
        under_way=(UnderWay(rank=0, host="gpu1", shard="b.parquet", first=0, stop=100, done=50),),
        hosts=(host,),
    )
    journal = Journal(encoding=lambda: encoding, started=time.monotonic() - 60)
    with caplog.at_level(logging.INFO, "kitestring.run"):
        RankLines()(journal.snapshot())
    assert caplog.messages == [
        "host=gpu1 rank=0 parts=1 rows=500 shard='a.parquet'",
        "host gpu1: at work, 500 rows, 50 rows/s, 0 tokens/s, 90% of the time at work, 2 groups taken, 0 given back, 0 shards doubled",
        "host=gpu1 rank=0 shard='b.parquet' rows=0-99 done=50",
    ]
    table = shard_table(journal.snapshot())
    assert any(line["state"] == "host" and line["what"].startswith("gpu1: at work, 500 rows") for line in table)
    assert any(line["what"] == "gpu1, rank 0: 50 of rows 0 to 99" for line in table)
