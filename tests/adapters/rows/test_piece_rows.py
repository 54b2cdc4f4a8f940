"""A piece waits for its rank in scratch."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.adapters.rows.pieces import PieceRows
from tasks.domain.errors import Permanent


def test_a_full_disk_is_told_with_its_place_and_the_cure() -> None:
    piece = PieceRows(first=0, stop=9)
    piece.add(pa.record_batch({"row": list(range(100_000))}))
    with pytest.raises(Permanent, match="no room left on the disk of /dev/full: free some"):
        piece.write(Path("/dev/full"))
