"""Machines of a test's own; skipped, with the reason, where none can be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Machines, machines, unavailable


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Machines]:
    """A hub and three hosts that share one folder, the test's."""
    if reason := unavailable():
        pytest.skip(reason)
    with machines(tmp_path, kept=[tmp_path]) as made:
        yield made
