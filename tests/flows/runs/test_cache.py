"""Two corpora that share half of their texts, a real Redis, and the command line: the second encodes its other half, and says so everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.servers.redis import redis_process

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
ROWS = 60


def corpus(folder: Path, name: str, first: int, model: Path, uri: str) -> dict[str, Any]:
    write_rows(folder / name / "rows" / "a.parquet", first, first + ROWS)
    cache = {"uri": uri, "ttl_days": 1, "deadline_ms": 60_000}
    return make_job(folder / name, model, corpus=name, cache=cache, checkpoint=str(folder / "checkpoint"), compute__processes=1)


def test_the_second_corpus_encodes_half_and_run_status_and_report_count_the_rest(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    with redis_process() as uri:
        first = kitestring("run", kitestring.job(corpus(tmp_path, "one", 0, tiny_model, uri), "one.yaml"), "--json")
        job = kitestring.job(corpus(tmp_path, "two", ROWS // 2, tiny_model, uri), "two.yaml")
        second = kitestring("run", job, "--json")
        again = kitestring("run", job, "--json")
    assert (first.code, second.code) == (0, 0), second.err
    assert "cached" not in first.json["rows"]
    assert first.json["rows"]["embedded"] == ROWS
    rows = {"source": ROWS, "embedded": ROWS // 2, "reused": 0, "cached": ROWS // 2, "duplicates": 0, "quarantined": 0}
    assert second.json["rows"].items() >= rows.items()
    assert second.json["verified"]
    assert again.json["rows"].items() >= {"embedded": 0, "reused": ROWS}.items()
    status = kitestring.here("status", job, "--json").json
    assert (status["rows"]["embedded"], status["rows"]["cached"], status["rows"]["reused"]) == (ROWS // 2, ROWS // 2, 0)
    assert f" {ROWS // 2} embedded, {ROWS // 2} cached, " in kitestring.here("status", job).out
    assert (status["rows"]["loaded"], status["rows"]["source"]) == (ROWS, ROWS)
    assert "taken from the cache" in Path(second.json["report"]).read_text()
