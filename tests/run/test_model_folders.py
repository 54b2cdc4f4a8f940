"""A model's folder may be moved: what an older version kept under its path goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.checkpoint.checkpoint import put_pin
from tasks.adapters.models import model_files
from tasks.adapters.models.model_files import locate_model
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tasks.run.preflight import Inspected, inspect_job
from tests.builders.kitestring import make_job, write_rows
from tests.builders.models import Clip


def inspected(folder: Path, model: Path, **settings: Any) -> Inspected:
    write_rows(folder / "rows" / "0.parquet", 0, 3)
    encoder = {"kind": "open-clip", "architecture": f"local-dir:{model}", "pretrained": "", **settings}
    return inspect_job(parse_job(make_job(folder, folder, encoder=encoder)))


def pin_as_before(found: Inspected) -> EncoderIdentity:
    """The pin that an older version wrote, with the path."""
    named = {"architecture": found.job.encoder.model_name}
    preprocessing = {**found.job.encoder.preprocessing, **named}
    identity = found.identify("float32").model_copy(update={"preprocessing": preprocessing, "model": f"{named['architecture']} "})
    record = EncoderRecord(identity=identity, facts=EncoderFacts(dim=32, max_seq_length=None, precision="float32", device="cpu"))
    declared = digest({"encoder": {**found.job.encoder.declared, **named}, "weights": found.model.weights})
    put_pin(found.store, found.job.corpus, declared, record)
    return identity


def test_what_an_older_version_kept_goes_on_wherever_the_folder_is(tiny_clip: Clip, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    shutil.copytree(tiny_clip.architecture.removeprefix("local-dir:"), a)
    kept = pin_as_before(inspected(tmp_path, a))
    a.rename(b)
    moved = inspected(tmp_path, b)
    assert moved.identify("float32").fingerprint == kept.fingerprint
    pinned = moved.pinned()
    assert pinned is not None
    assert pinned.identity == kept


def test_another_encoder_is_another_encoder_still(tiny_clip: Clip, tmp_path: Path) -> None:
    model = tmp_path / "a"
    shutil.copytree(tiny_clip.architecture.removeprefix("local-dir:"), model)
    pin_as_before(inspected(tmp_path, model))
    assert inspected(tmp_path, model).pinned() is not None
    for settings in ({"exact": True}, {"mean": [0.1, 0.1, 0.1]}, {"precision": "bfloat16"}):
        assert inspected(tmp_path, model, **settings).pinned() is None
    (model / "open_clip_model.safetensors").write_bytes((model / "open_clip_model.safetensors").read_bytes()[:-1] + b"x")
    assert inspected(tmp_path, model).pinned() is None


def test_a_model_of_the_hub_is_known_by_its_files_and_an_older_corpus_goes_on(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub"
    shutil.copytree(tiny_clip.architecture.removeprefix("local-dir:"), folder)
    monkeypatch.setattr(model_files, "snapshot_download", lambda *_, **__: str(folder))
    encoder = {"kind": "open-clip", "architecture": "hf-hub:somebody/clip"}
    write_rows(tmp_path / "rows" / "0.parquet", 0, 3)
    job, older = (parse_job(make_job(tmp_path, tmp_path, encoder=encoder, corpus=corpus)) for corpus in ("new", "older"))
    now = inspect_job(job)
    assert (now.model.revision, inspect_job(job).declared) == ("hub", now.declared)

    weights = digest(["hf-hub:somebody/clip", "tag", job.encoder.pretrained])  # as an older version had it
    identity = now.identify("float32").model_copy(update={"weights": weights, "revision": None})
    record = EncoderRecord(identity=identity, facts=EncoderFacts(dim=32, max_seq_length=None, precision="float32", device="cpu"))
    put_pin(now.store, "older", digest({"encoder": job.encoder.declared, "weights": weights}), record)
    before = inspect_job(older)
    assert (before.pinned(), before.identify("float32").fingerprint) == (record, identity.fingerprint)
    assert locate_model(older.encoder).is_model_of(weights)

    (folder / "notes.txt").write_text("no part of it")
    assert inspect_job(job).declared == now.declared
    (folder / "open_clip_model.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes()[:-1] + b"x")
    assert inspect_job(job).declared != now.declared
    assert inspect_job(older).pinned() == record
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"'hf-hub:somebody/clip' holds no open_clip model: it lacks open_clip_model.safetensors"):
        inspect_job(job)
