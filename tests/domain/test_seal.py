from __future__ import annotations

from tasks.domain.seal import EncodeStats


def test_a_seal_names_every_backend_that_made_a_part_of_it() -> None:
    parts = [EncodeStats(backend="torch"), EncodeStats(backend="openvino"), EncodeStats(backend="torch"), EncodeStats()]
    assert sum(parts, EncodeStats()).backend == "openvino and torch"
    assert sum(parts[:1], EncodeStats()).backend == "torch"
