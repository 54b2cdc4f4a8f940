"""What a killed process may leave in a Milvus Lite file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.milvus import MilvusCollection
from tests.adapters.test_collection import part_of, spec_of


@pytest.mark.parametrize("left", ["schema.json.tmp", "partitions/data"], ids=["making", "dropping"])
def test_a_collection_that_was_left_half_made_or_half_dropped_is_made_anew(tmp_path: Path, left: str):
    """A folder without its schema: Milvus Lite would neither list it nor let its name be used."""
    for name in ("half", "whole"):
        made = MilvusCollection(str(tmp_path / "t.db"), name, alias=f"{name}_alias")
        made.ensure(spec_of(name))
        made.upsert(part_of(["a"]))
        made.close()
    (folder,) = tmp_path.glob("t.db/**/collections/half")
    (folder / "schema.json").unlink()
    (folder / left).parent.mkdir(exist_ok=True)
    (folder / left).touch()

    half = MilvusCollection(str(tmp_path / "t.db"), "half", alias="half_alias")
    assert half.describe() is None
    half.ensure(spec_of("half"))
    half.upsert(part_of(["b", "c"]))
    assert half.count() == 2
    half.close()

    whole = MilvusCollection(str(tmp_path / "t.db"), "whole", alias="whole_alias")
    assert whole.count() == 1
    whole.close()
