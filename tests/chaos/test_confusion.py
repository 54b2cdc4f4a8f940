"""A short subset of `python -m tests.chaos.confusion`: right collections are called right, and spoiled ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring
from tests.chaos.confusion import Laboratory, Outcome, table
from tests.chaos.corpus import make_slow_model
from tests.chaos.corruptions import BOTH
from tests.chaos.histories import ANYWHERE, History, fresh, retained, retried, shared
from tests.servers.milvus import MilvusProcess

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
LITE = (
    "a foreign row, unknown shard",
    "a key exchanged for a foreign one",
    "two rows traded their shards",
    "a vector zeroed",
    "n changed of a row",
    "tags changed of a row",
    "facts changed of a row",
    "text emptied of all rows",
    "alias led to another collection",
)
SERVER = ("50 keys doubled, another shard", "as many foreign rows as there are, unknown shard")


@pytest.fixture
def laboratory(tmp_path: Path, run_flow: RunFlow, kitestring: Kitestring) -> Laboratory:
    model = make_slow_model(tmp_path / "model", seconds=0)
    return Laboratory(folder=tmp_path, model=model, run_flow=run_flow, kitestring=kitestring)


@pytest.mark.parametrize("history", [retained, retried, shared])
def test_a_right_collection_is_proved_by_both_proofs(laboratory: Laboratory, history: History) -> None:
    _all_well([laboratory.judge_right("lite", "", history, ANYWHERE[history])])


def test_what_was_spoiled_is_not_proved(laboratory: Laboratory) -> None:
    _all_well([*laboratory.judge_spoiled("lite", "", fresh, [c for c in BOTH if c.name in LITE])])


def test_what_was_spoiled_on_a_server_is_not_proved(laboratory: Laboratory, milvus_server: MilvusProcess) -> None:
    _all_well([*laboratory.judge_spoiled("2.3.5", milvus_server.uri, fresh, [c for c in BOTH if c.name in SERVER])])


def test_the_table_knows_how_often_a_sample_has_to_fall_on_what_is_wrong() -> None:
    """3,000 rows, 1,000 drawn: one wrong row is among them in a third of the proofs."""
    few = Outcome(where="lite", history="large", rows=3_000, hidden=1, plain=[0] * 20, full=4)
    assert round(few.chance, 3) == 0.333
    assert few.fault == "verify finds it less often than it says"  # none of 20 would be 3 in 10,000
    assert not Outcome(where="lite", history="large", rows=3_000, hidden=1, plain=[0] * 16 + [4] * 4, full=4).fault
    assert Outcome(where="lite", history="large", rows=3_000, hidden=1, plain=[4] * 20, full=0).fault == "--full calls it good"
    assert Outcome(where="lite", history="fresh", rows=300, hidden=1, plain=[0], full=4).fault == "verify calls it good"
    assert Outcome(where="lite", history="fresh", rows=300, plain=[0], full=4).fault == "a right collection is called bad"


def _all_well(outcomes: list[Outcome]) -> None:
    assert not [outcome for outcome in outcomes if outcome.fault], f"\n{table(outcomes)}"
