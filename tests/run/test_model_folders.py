"""A model's folder may be moved: what an older version kept under its path goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tasks.adapters.checkpoint.checkpoint import put_pin
from tasks.domain.digest import digest
from tasks.domain.job.encoder import EncoderFacts, EncoderIdentity, EncoderRecord
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
