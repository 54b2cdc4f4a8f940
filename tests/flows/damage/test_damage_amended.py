"""A shard that `quarantine retry` has amended may be damaged as any other: what was recovered stays, or is set aside and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.targets.memory_target import MemoryTarget
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job
from tests.builders.models import Clip
from tests.builders.worker.pictures import saved, scene

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
PICTURES = 6  # of which the last one comes late


@pytest.fixture
def job(run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip) -> dict[str, Any]:
    """Of pictures by their paths; one was missing, and was recovered by a retry."""
    rows = tmp_path / "rows"
    rows.mkdir()
    for number in range(PICTURES - 1):
        (rows / f"{number}.png").write_bytes(saved(scene(number), "PNG"))
    names = [*(f"{number}.png" for number in range(PICTURES - 1)), "late.png"]
    pq.write_table(pa.table({"id": names, "picture": names}), rows / "pictures.parquet")
    encoder = {"kind": "open-clip", "architecture": tiny_clip.architecture, "pretrained": tiny_clip.pretrained, "precision": "float32"}
    source = {"kind": "parquet", "uri": str(rows / "*.parquet"), "id": "id", "image": "picture"}
    where = {"target__uri": f"memory://{tmp_path.name}", "failures__max_quarantined": 0.5, "compute__processes": 1}
    document = make_job(tmp_path, tmp_path, source=source, encoder=encoder, **where)
    assert run_flow(document)["rows"]["quarantined"] == 1
    (rows / "late.png").write_bytes(saved(scene(9), "PNG"))
    assert run_flow(document, "flows.retry.retry_quarantined")["rows"]["loaded"] == PICTURES
    return document


def found(job: dict[str, Any], pattern: str) -> Path:
    (path,) = Path(job["checkpoint"]).glob(f"rows/*/shards/*/{pattern}")
    return path


def in_collection(job: dict[str, Any]) -> int:
    fingerprint = next(Path(job["checkpoint"]).glob("rows/*/encoder.json")).parent.name
    return MemoryTarget(job["target"]["uri"]).collection(f"rows_{fingerprint[:8]}").count()


PLACES = {
    "its part": "2*/part-*.parquet",
    "the retry's part": "retry-*/part-*.parquet",
    "seal": "seal.json",
    "amendment": "amend-0001.json",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("still_there", [True, False])
@pytest.mark.parametrize("collection", ["as it was", "to be loaded again"])
def test_what_a_retry_recovered_survives_as_long_as_it_can(
    run_flow: RunFlow, job: dict[str, Any], tmp_path: Path, place: str, still_there: bool, collection: str
) -> None:
    broken = found(job, PLACES[place])
    broken.unlink() if broken.suffix == ".parquet" else broken.write_bytes(b"{")
    if not still_there:
        (tmp_path / "rows" / "late.png").unlink()
    if collection != "as it was":
        job["target"]["uri"] += "-other"
    done = run_flow(job)
    # Without the picture the recovered row is kept by the amendment, if that is whole and so is its part.
    recovered = still_there or place in {"its part", "seal"}
    loaded = PICTURES if recovered else PICTURES - 1
    assert done["verified"] is True
    assert (done["rows"]["loaded"], done["rows"]["quarantined"]) == (loaded, PICTURES - loaded)
    assert in_collection(job) == loaded
    again = run_flow(job)
    assert (again["verified"], again["rows"]["embedded"], again["rows"]["loaded"]) == (True, 0, loaded)


def test_a_retry_mends_as_well(run_flow: RunFlow, job: dict[str, Any]) -> None:
    for pattern in ("2*/part-*.parquet", "amend-0001.json"):
        found(job, pattern).unlink()
    done = run_flow(job, "flows.retry.retry_quarantined")
    assert (done["verified"], done["rows"]["loaded"], in_collection(job)) == (True, PICTURES, PICTURES)
