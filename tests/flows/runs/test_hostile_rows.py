"""Keys, metadata and file names are data, from the source to the proof, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.command_line.show import hits_text, quarantine_text
from tasks.domain.target.collection import Hit
from tests.builders.collections import NASTY
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job
from tests.builders.runs import keys_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(300), pytest.mark.usefixtures("no_process_left")]
KEYS = [text for text in NASTY if text.strip()]  # a blank key is no key


def write(folder: Path, name: str, keys: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table(
        {"id": keys, "text": [f"text {key}" for key in keys], 'wo"rds': [f"{key} again" for key in keys], "tags": [[key] for key in keys]}
    )
    pq.write_table(table, folder / name)


def test_rows_do_not_steer_the_terminal_that_shows_them() -> None:
    evil = "\x1b[2J\x1b]0;title\x07\x9b1mred"
    shown = hits_text([Hit(id=evil, score=1.0, fields={"text": evil, evil: evil})])
    shown += quarantine_text([{"shard": evil, "row": 1, "id": evil, "reason": evil}])
    assert "red" in shown
    assert all(character == "\n" or character.isprintable() for character in shown)


def test_a_corpus_of_hostile_rows_is_loaded_replaced_and_proved(
    kitestring: Kitestring, run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    first, second = 'a"] or id != "\n{x}.parquet', "b's \\ ${HOME} %s.parquet"
    write(tmp_path / "rows", first, KEYS[::2])
    write(tmp_path / "rows", second, KEYS[1::2])
    document = make_job(tmp_path, tiny_model, source__metadata=['wo"rds', "tags"], compute__processes=1)
    job = kitestring.job(document)
    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    assert run.json["rows"]["loaded"] == len(KEYS)
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(KEYS)

    found = kitestring.here("search", job, "text", "-k", "999", "--json")
    assert found.code == 0, found.err
    for hit in found.json:
        assert f"{hit['id']} again" in hit.values()
        assert [hit["id"]] in hit.values() or json.dumps([hit["id"]]) in hit.values()
    assert len(found.json) == len(KEYS)

    write(tmp_path / "rows", first, KEYS[:4:2])  # its shard is replaced: the rows that are gone leave, and no others
    assert run_flow(document)["verified"] is True
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted([*KEYS[:4:2], *KEYS[1::2]])
