"""The run to compare with: the last one that reported before, if it can be read."""

from __future__ import annotations

import json
import secrets

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.past_reports import report_before
from tasks.adapters.object_store.registry import open_store

TOLD = {"started": "2026-11-21T08:00:00Z", "finished": "2026-11-21T08:01:00Z", "rows": {"source": 7}}


def test_the_last_run_before_is_found_among_older_newer_and_damaged_reports() -> None:
    checkpoint = Checkpoint(open_store(f"memory://{secrets.token_hex(8)}"), "pydocs", "0f" * 16)
    ours = "20261121T120000-c"
    assert report_before(checkpoint, ours) is None
    for run in ("20261119T000000-a", "20261120T000000-b", ours, "20261122T000000-e"):
        checkpoint.write_report(run, "report.json", json.dumps({"run": run, **TOLD}).encode())
    checkpoint.write_report("20261121T000000-d", "report.json", b"not even JSON \xff")
    checkpoint.write_report("20261121T110000-d", "report.json", b"[]")
    checkpoint.write_report("20261121T115900-d", "report.html", b"<p>")  # a run that was killed before it had said anything else
    found = report_before(checkpoint, ours)
    assert found is not None
    assert (found.run, found.rows.source, found.seconds) == ("20261120T000000-b", 7, 60.0)
