"""What a person sees: the demo on a terminal, and again in a log."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command_line.show import run_text
from tests.builders.kitestring import SECONDS, Command, Kitestring, make_job, write_rows

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]


def on_a_terminal(kitestring: Kitestring, *arguments: str) -> Command:
    """A command whose stderr is a terminal of 120 columns, for a user whose environment says nothing of tracking."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **kitestring.env, "TERM": "xterm", "COLUMNS": "120"}
    env.pop("DO_NOT_TRACK", None)
    command = [sys.executable, "-m", "flows", *arguments]
    with subprocess.Popen(command, cwd=kitestring.folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        try:
            said = _read_to_the_end(ours)
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            os.close(ours)
    return Command(code=process.returncode, out=out, err=said)


def _read_to_the_end(terminal: int) -> str:
    """Until the last process that has it is gone; Linux says that with an error."""
    pieces: list[bytes] = []
    try:
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    except OSError:
        pass
    return b"".join(pieces).decode(errors="replace")


@pytest.mark.usefixtures("minilm_path")
def test_the_demo_finds_what_it_is_asked_for_and_does_nothing_twice(kitestring: Kitestring) -> None:
    first = on_a_terminal(kitestring, "demo", "--quick")
    assert first.code == 0, first.err
    assert "\x1b[" in first.err, "a bar moves"
    assert "starting Prefect" in first.err, "it says what it does before there is a run"
    assert re.search(r"[\d,]+ of [\d,]+ rows", first.err)
    assert "rows are searchable, verified" in first.out
    assert re.search(r"report: \S+/report\.html", first.out)
    date = first.out.partition("parse a date from a string")[2].partition("\n? ")[0]
    assert "strptime" in date
    assert first.out.count("\n? ") == 3
    assert "Try next" in first.out
    report = Path(re.findall(r"report: (\S+)", first.out)[0])
    assert (kitestring.folder / report).is_file()

    again = kitestring("demo", "--quick")
    assert again.code == 0, again.err
    assert "nothing had to be encoded" in again.out
    assert "strptime" in again.out
    assert "\x1b" not in again.err + again.out, "plain lines where nobody watches"

    described = on_a_terminal(kitestring, "status", "demo/quick.yaml", "--json")
    assert described.code == 0
    assert "usage data" not in first.err + described.err, "Prefect's notice"
    assert described.json["rows"]["embedded"] == described.json["rows"]["loaded"] > 400
    assert "demo" in described.json["report"]


def test_two_sizes_at_once_are_refused(kitestring: Kitestring) -> None:
    both = kitestring("demo", "--quick", "--full")
    assert both.code == 2
    assert both.err == "error: --quick and --full exclude each other\n"
    assert not (kitestring.folder / "demo").exists()


def test_plain_lines_and_one_document_where_nobody_watches(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    run = kitestring("run", kitestring.job(make_job(tmp_path, tiny_model)), "--json")
    assert run.code == 0, run.err
    assert run.out.count("\n") == 1
    assert run.json["verified"] is True
    assert all(re.match(r"(start|start-up|plan|encode|load|verify|promote): ", line) for line in run.err.splitlines()), run.err
    report = json.loads(Path(run.json["report"]).with_suffix(".json").read_text())
    began, ended = (dt.datetime.fromisoformat(report[name]) for name in ("started", "finished"))
    flow_began = dt.datetime.strptime(f"{report['run'][:18]}000+0000", "%Y%m%dT%H%M%S%f%z")
    assert began < flow_began, "the command's start: the encoder has been loading since"
    assert (ended - began).total_seconds() > report["seconds"]["start-up"] > 0
    assert "\x1b" not in run.err


def test_a_run_that_quarantined_every_row_says_so_in_its_first_line() -> None:
    rows = {"source": 3, "embedded": 0, "reused": 0, "duplicates": 0, "quarantined": 3, "loaded": 0, "removed": 0}
    result = {"rows": rows, "shards": {"loaded": 1, "planned": 1}, "verified": True, "proof": "", "report": "r", "notes": []}
    assert run_text(result).splitlines()[0] == "no row is searchable: all 3 are quarantined (failures.max_quarantined allows it)"
    assert run_text({**result, "rows": {**rows, "loaded": 1, "quarantined": 2}}).startswith("1 of 3 rows are searchable, verified\n")
