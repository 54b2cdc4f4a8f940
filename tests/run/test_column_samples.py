"""Types of columns are sampled once for the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint, put_pin
from tasks.adapters.sources.csv import CsvFiles
from tasks.domain.encoder_identity import EncoderFacts, EncoderRecord
from tasks.domain.job.parse import parse_job
from tasks.domain.target.fields import SettledColumns
from tasks.run.column_samples import source_notes
from tasks.run.plan import spool_spans
from tasks.run.preflight import Inspected, inspect_job
from tests.builders.kitestring import make_job


def test_a_sample_is_kept_for_as_long_as_the_files_are_the_same(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("id,text,n\n1,one,1\n2,two,x\n")
    source = {"kind": "csv", "uri": str(tmp_path), "id": "id", "text": "text", "metadata": ["n"]}
    job = parse_job(make_job(tmp_path, tiny_model, source=source))
    sampled: list[int] = []
    looked = CsvFiles._sample

    def counted(files: CsvFiles, *arguments: object) -> object:
        sampled.append(1)
        return looked(files, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CsvFiles, "_sample", counted)

    def notes(scratch: str, *, writes: bool) -> tuple[list[str], int]:
        inspected = inspect_job(job)
        (tmp_path / scratch).mkdir()
        if writes:
            inspected.damages.mend("run", lambda _key, _line: None)
        sampled.clear()
        spool = spool_spans(inspected, tmp_path / scratch)
        return list(source_notes(inspected, spool)), len(sampled)

    settle_before(inspect_job(job))
    [told], first = notes("1", writes=False)
    assert "the first run of this corpus inferred int64 for column 'n', which now holds text" in told
    assert first == 1
    assert [notes("2", writes=True)[1], notes("3", writes=True), notes("4", writes=False)] == [1, ([told], 0), ([told], 0)]
    (tmp_path / "b.csv").write_text("id,text,n\n3,three,3\n")
    assert notes("5", writes=True) == ([told], 2)


def settle_before(inspected: Inspected) -> None:
    """As an earlier run leaves it."""
    identity = inspected.identify("float32")
    record = EncoderRecord(identity=identity, facts=EncoderFacts(dim=32, max_seq_length=None, precision="float32", device="cpu"))
    put_pin(inspected.store, inspected.job.corpus, inspected.declared, record)
    checkpoint = Checkpoint(inspected.store, inspected.job.corpus, identity.fingerprint)
    checkpoint.settle_columns(SettledColumns(types={"n": "int64"}, names={}))
