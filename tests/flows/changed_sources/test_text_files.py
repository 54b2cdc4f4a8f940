"""A folder of text files through whole runs: the collection follows what is edited, broken and removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.job_file import read_job
from tasks.commands.inspect import look_at_plan
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job
from tests.builders.runs import keys_in
from tests.flows.changed_sources.documents import chunks, words

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_a_mirror_of_a_folder_follows_its_files(run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    for name, text in {"a.md": f"# the\n\n{words(28)}", "b.txt": words(5), "sub/c.md": words(6), "d.rst": words(7)}.items():
        (docs / name).write_text(text)
    (docs / "broken.txt").write_bytes("fl\xf6gen".encode("latin-1"))
    source = {"kind": "text-files", "uri": str(docs), "chunks": {"tokens": 16, "split": "markdown"}}
    target = {"uri": str(tmp_path / "rows.db"), "collection": "rows", "mode": "mirror", "max_shrink": 0.5}
    job = make_job(tmp_path, tiny_model, source=source, target=target, failures={"max_quarantined": 0.3}, compute={"processes": 1})
    assert look_at_plan(read_job(kitestring.job(job), None))["rows"] == {"source": 5, "to_encode": 5}
    result = run_flow(job)
    assert (result["rows"]["source"], result["rows"]["embedded"], result["rows"]["quarantined"], result["verified"]) == (5, 4, 1, True)
    first = sorted([*chunks("a.md", 3), "b.txt#0", "d.rst#0", "sub/c.md#0"])
    assert sorted(keys_in(job["target"]["uri"])) == first

    (docs / "b.txt").write_text(words(40, 1))  # edited: longer than a chunk
    (docs / "sub" / "c.md").unlink()
    result = run_flow(job)
    assert sorted(keys_in(job["target"]["uri"])) == sorted([*chunks("a.md", 3), *chunks("b.txt", 3), "d.rst#0"])
    assert (result["rows"]["source"], result["rows"]["quarantined"], result["rows"]["removed"], result["verified"]) == (4, 1, 1, True)
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
    assert run_flow(job)["rows"]["embedded"] == 0
