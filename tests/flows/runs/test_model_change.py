"""A new model beside the old one: proved, let through the gate, promoted, rolled back; searches never stop or mix."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import MilvusClient
from typer.testing import CliRunner

from flows.command_line.cli import app
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.commands.promote_by_hand import promote_by_hand, roll_back
from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput, OutcomeUnknown, RunFailed, Transient
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, text_of, write_rows
from tests.builders.models import HIDDEN, make_tiny_model
from tests.chaos.mirror import rows_in
from tests.servers.milvus import MilvusProcess, milvus_process

commands = CliRunner()
pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
Job = dict[str, Any]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of one shape."""
    folder = tmp_path_factory.mktemp("models")
    return [make_tiny_model(folder / f"model-{seed}", seed=seed) for seed in (21, 22, 23)]


@pytest.fixture
def jobs(tmp_path: Path, models: list[Path]) -> list[Job]:
    """The same corpus with each of the models."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 40)
    return [make_job(tmp_path, model) for model in models]


def live(job: Job) -> str:
    """The model that searches are led to, by its folder's name."""
    target = parse_job(job).target
    with closing(MilvusTarget(target.uri)) as server:
        name = server.resolve(target.collection)
        assert name
        made = server.collection(name).describe()
    return "gone" if made is None else Path(made.model).name


def collections(job: Job) -> list[str]:
    client = MilvusClient(job["target"]["uri"])
    try:
        return sorted(client.list_collections())
    finally:
        client.close()


def changed(job: Job, **target: Any) -> Job:
    return job | {"target": job["target"] | target}


def test_a_new_model_is_promoted_rolled_back_for_good_and_promoted_by_hand(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    old, new, newest = jobs
    run_flow(old)
    with pytest.raises(BadInput, match=r"model-21 \(\w{8}\).*model-22"):
        Searcher(parse_job(new))

    held = run_flow(changed(new, promote="manual"))
    assert (held["verified"], live(old)) == (True, "model-21")
    assert any("target.promote is manual" in note for note in held["notes"])
    assert promote_by_hand(parse_job(new))["collection"] in collections(new)
    assert live(old) == "model-22"
    with Searcher(parse_job(old)) as searcher:
        assert len(searcher.search(text_of(3), 5)) == 5  # the old one is still there to be asked

    roll_back(parse_job(new))
    assert live(old) == "model-21"
    again = run_flow(new)
    assert (live(old), again["rows"]["embedded"]) == ("model-21", 0)
    assert any("was rolled back, so the alias does not move to it" in note for note in again["notes"])
    with pytest.raises(BadInput, match="no earlier collection"):
        roll_back(parse_job(new))

    promote_by_hand(parse_job(new))
    run_flow(changed(newest, grace=0))  # one earlier is kept, whatever the grace
    assert live(old) == "model-23"
    assert len(collections(old)) == 2
    path = tmp_path / "job.json"
    path.write_text(json.dumps(newest))
    back = commands.invoke(app, ["rollback", str(path)])
    assert (back.exit_code, live(old)) == (0, "model-22")
    assert back.stdout.count("alias 'rows' points to 'rows_") == 1
    assert commands.invoke(app, ["rollback", str(path)]).exit_code == 2  # the first one is dropped
    assert commands.invoke(app, ["promote", str(path)]).stdout.count("points to") == 1
    assert commands.invoke(app, ["rollback", str(path)]).exit_code == 0
    forth = commands.invoke(app, ["promote", str(path), "--json"])
    assert (forth.exit_code, json.loads(forth.stdout)["alias"], live(old)) == (0, "rows", "model-23")


@contextmanager
def killed_before_the_alias_moves() -> Iterator[None]:
    """As a kill: what was written before stands, and nothing comes after."""

    def killed(*_: object) -> None:
        raise Transient("killed")

    with patch.object(MilvusTarget, "point", killed), suppress(Transient):
        yield
        raise AssertionError("it was not killed")


def test_a_move_that_was_cut_short_is_finished_by_the_next_run(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    old, new, _ = jobs
    run_flow(old)
    with killed_before_the_alias_moves():
        run_flow(new)
    assert live(old) == "model-21"
    run_flow(new)
    assert live(old) == "model-22"
    assert len(list((tmp_path / "checkpoint" / "rows" / "promotions").rglob("*.json"))) == 2

    with killed_before_the_alias_moves():
        roll_back(parse_job(new))
    assert live(old) == "model-22"
    run_flow(new)
    assert live(old) == "model-21"


def test_a_server_that_dies_during_the_move_is_waited_for_or_the_next_run_ends_right(
    run_flow: RunFlow, tmp_path: Path, models: list[Path]
) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 40)
    point = MilvusTarget.point
    with milvus_process() as server:
        old, new = (make_job(tmp_path, model, target__uri=server.uri) for model in models[:2])
        run_flow(old)
        again = threading.Thread(target=server.start)

        def dying(*given: Any) -> None:
            server.kill()
            again.start()
            point(*given)

        with patch.object(MilvusTarget, "point", dying), suppress(OutcomeUnknown):
            run_flow(new)
        again.join()
        assert run_flow(new)["verified"] is True
        assert live(new) == "model-22"


def test_the_gate_decides_with_figures_of_both(run_flow: RunFlow, jobs: list[Job], models: list[Path], tmp_path: Path) -> None:
    old_model = tmp_path / "old-model"
    shutil.copytree(models[0], old_model)
    old, new = make_job(tmp_path, old_model), jobs[1]
    questions = tmp_path / "questions.jsonl"
    lines = [{"query": text_of(row), "relevant": [f"row-{row}"] if row else ["row-0", "nowhere"]} for row in range(8)]
    questions.write_text("\n".join(json.dumps(line) for line in lines))
    run_flow(old)

    strict = changed(new, gate={"queries": str(questions), "minimum": 1.0, "at_k": 3})
    with pytest.raises(RunFailed, match=r"not moved to 'rows_\w{8}': nDCG@3 is 0\.\d+, below target\.gate\.minimum \(1\)"):
        run_flow(strict)
    assert live(old) == "old-model"
    with pytest.raises(BadInput, match=r"target\.gate\.minimum"):
        promote_by_hand(parse_job(strict))

    easy = changed(new, gate={"queries": str(questions), "max_drop": 0.9})
    old_model.rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=r"could not be sent.*old-model.*max_drop: 1"):
        promote_by_hand(parse_job(easy))
    (tmp_path / "moved").rename(old_model)
    told = promote_by_hand(parse_job(easy))["told"]
    assert [line.split(":")[0] for line in told[:2]] == ["gate, 8 questions", "gate, current collection"]
    assert all("nDCG@10 0." in line and "recall@10 0." in line for line in told[:2])
    assert live(new) == "model-22"


def test_a_mirror_that_lost_its_source_does_not_lose_it_with_a_new_model(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "b.parquet", 100, 200)
    run_flow(changed(jobs[0], mode="mirror"))
    (tmp_path / "rows" / "b.parquet").unlink()
    with pytest.raises(RunFailed, match=r"100 of the collection's 140 rows.*allow_shrink"):
        run_flow(changed(jobs[1], mode="mirror"))
    assert live(jobs[0]) == "model-21"
    run_flow(changed(jobs[1], mode="mirror", allow_shrink=True))
    assert live(jobs[0]) == "model-22"


def test_a_gate_without_its_questions_is_refused_before_anything_is_written(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"target\.gate\.queries"):
        run_flow(changed(jobs[0], gate={"queries": str(tmp_path / "none.jsonl")}))
    assert not (tmp_path / "checkpoint").exists()


class Client(threading.Thread):
    """Searches through the alias without pause, always the same few queries, and keeps every answer."""

    def __init__(self, uri: str, alias: str) -> None:
        super().__init__(daemon=True)
        self.queries = np.random.default_rng(5).standard_normal((8, HIDDEN)).astype(np.float32)
        self.answers: list[tuple[int, tuple[str, ...]]] = []
        self.failures: list[str] = []
        self._alias, self._client, self.over = alias, MilvusClient(uri), threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            number = len(self.answers) % len(self.queries)
            try:
                self.answers.append((number, self.ask(self._alias, number)))
            except Exception as error:  # noqa: BLE001 - told to the test
                self.failures.append(str(error))

    def ask(self, collection: str, number: int) -> tuple[str, ...]:
        (hits,) = self._client.search(collection, [self.queries[number]], limit=5, search_params={"metric_type": "COSINE"})
        return tuple(hit["id"] for hit in hits)

    def wait_for(self, more: int) -> None:
        until, deadline = len(self.answers) + more, time.monotonic() + 60
        while len(self.answers) < until and time.monotonic() < deadline and not self.failures:
            self.over.wait(0.05)


def test_no_search_fails_or_mixes_models_while_one_takes_over_and_gives_back(
    run_flow: RunFlow, tmp_path: Path, models: list[Path], milvus_server: MilvusProcess
) -> None:
    """Each of at least 2,000 answers is, hit for hit, what one of the two models gives."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 300)
    where = {"target__uri": milvus_server.uri, "target__collection": "changing", "shards__rows": 100}
    old, new = (make_job(tmp_path, model, **where) for model in models[:2])
    run_flow(old)
    client = Client(milvus_server.uri, "changing")
    client.start()
    client.wait_for(500)
    run_flow(new)
    client.wait_for(500)
    said = roll_back(parse_job(new))
    client.wait_for(500)
    promote_by_hand(parse_job(new))
    client.wait_for(max(500, 2_000 - len(client.answers)))
    client.over.set()
    client.join(30)

    given = {name: [client.ask(name, number) for number in range(8)] for name in (said["collection"], said["before"])}
    one, two = given.values()
    assert all(left != right for left, right in zip(one, two, strict=True))
    assert client.failures == []
    assert len(client.answers) >= 2_000
    assert [answer for answer in client.answers if answer[1] not in (one[answer[0]], two[answer[0]])] == []
    assert {answer[1] == one[answer[0]] for answer in client.answers} == {True, False}  # both were live


def test_a_run_that_fails_leaves_the_alias_where_it_is(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, faulty_model: Path) -> None:
    """Nine of ten rows are such that the second model gives NaN."""
    rows = {"id": [f"row-{row}" for row in range(10)], "text": ["the one that was", *(["poison"] * 9)]}
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "rows" / "a.parquet")
    old = make_job(tmp_path, tiny_model)
    run_flow(old)
    before = live(old)
    new = make_job(tmp_path, faulty_model, encoder__trust_remote_code=True, failures__max_quarantined=0.01)
    with pytest.raises(RunFailed, match=r"9 of 10 rows were quarantined, more than failures\.max_quarantined"):
        run_flow(new)
    assert live(old) == before

    lenient = new | {"failures": {"max_quarantined": 1.0}}
    with pytest.raises(RunFailed, match=r"not moved to .* it holds 1 rows, and 'rows_\w{8}' 10: .*--anyway"):
        run_flow(lenient)
    assert live(old) == before
    with pytest.raises(BadInput, match="--anyway"):
        promote_by_hand(parse_job(lenient))
    promote_by_hand(parse_job(lenient), anyway=True)
    assert live(old) == faulty_model.name


def test_a_new_model_that_lacks_files_which_have_left_the_source_is_not_promoted_by_itself(
    run_flow: RunFlow, jobs: list[Job], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows" / "b.parquet", 100, 180)
    old, new, _ = jobs
    run_flow(old)
    (tmp_path / "rows" / "b.parquet").rename(tmp_path / "b.parquet")
    with pytest.raises(
        RunFailed, match=rf"it holds 40 rows, and 'rows_\w{{8}}' 120 \(rows of files.*: {tmp_path}/rows/b\.parquet\).*--anyway"
    ):
        run_flow(new)
    assert live(old) == "model-21"
    (tmp_path / "b.parquet").rename(tmp_path / "rows" / "b.parquet")
    run_flow(new)
    assert live(old) == "model-22"


@pytest.mark.parametrize("told", [True, False])
def test_a_replay_holds_what_an_append_has_kept(run_flow: RunFlow, jobs: list[Job], tmp_path: Path, told: bool) -> None:
    """Wherever it goes: rows of files that have left the source, and of a key that came again the newer."""
    old = jobs[0]
    write_rows(tmp_path / "rows" / "b.parquet", 100, 180)
    run_flow(old)
    (tmp_path / "rows" / "b.parquet").unlink()
    write_rows(tmp_path / "rows" / "c.parquet", 170, 200)
    run_flow(old)
    if not told:  # as before moves told the ledger
        for path in (tmp_path / "checkpoint").rglob("promotions/*/*.json"):
            path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "ledger"} | {"format_version": 1}))
    there = changed(old, uri=str(tmp_path / "other.db"))
    for _ in range(2):
        result = run_flow(there, "flows.replay.replay_seals")
        assert (result["verified"], result["rows"]["embedded"]) == (True, 0)
        assert rows_in(there["target"]["uri"], "rows") == rows_in(old["target"]["uri"], "rows")
    assert len(rows_in(there["target"]["uri"], "rows")) == 40 + 100


def test_a_proof_counts_for_the_seals_that_it_names_and_for_no_others(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    old, new, _ = jobs
    run_flow(old)
    run_flow(changed(new, promote="manual"))
    write_rows(tmp_path / "rows" / "b.parquet", 100, 160)
    with patch("flows.embed.verify_collection", side_effect=Transient("killed")), pytest.raises(Transient):
        run_flow(changed(new, promote="manual"))
    with pytest.raises(BadInput, match="not verified in its current state"):
        promote_by_hand(parse_job(new))
    assert live(old) == "model-21"
    run_flow(changed(new, promote="manual"))
    assert promote_by_hand(parse_job(new))["collection"] in collections(new)


def test_a_rollback_stands_however_the_address_is_spelled(run_flow: RunFlow, jobs: list[Job], tmp_path: Path) -> None:
    old, new, _ = jobs
    run_flow(old)
    run_flow(new)
    roll_back(parse_job(new))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    elsewhere = changed(new, uri=f"{tmp_path}/../{tmp_path.name}/rows.db")
    again = run_flow(elsewhere)
    assert any("was rolled back, so the alias does not move to it" in note for note in again["notes"])
    assert live(old) == "model-21"
