"""What is said of a proof is what was compared."""

from __future__ import annotations

import pytest

from tasks.domain.target.proof import Proof


@pytest.mark.parametrize(
    ("told", "exact"),
    [
        ({"sampled": 1_000}, False),  # counts agree also where one row stands in place of another
        ({"sampled": 5_000}, True),
        ({"sampled": 1_000, "full": True}, True),
        ({"sampled": 5_000, "foreign": 1}, False),
        ({"sampled": 5_000, "total": 5_001}, False),
        ({"sampled": 5_000, "retained": 1}, False),
    ],
)
def test_a_collection_holds_exactly_the_sealed_rows_only_where_every_row_was_compared(told: dict[str, int], exact: bool) -> None:
    known = {"proved": True, "reasons": (), "counts": (), "rows": 5_000, "total": 5_000, "absent": 0, "lowest_cosine": 1.0}
    assert Proof.model_validate({**known, "recall_at_10": 1.0, "seed": 1, "seconds": 1.0, **told}).exact is exact
