"""A checkpoint in every store."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.object_store.registry import open_store
from tasks.domain.ports import Store
from tests.builders.checkpoints import IDENTITY


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return open_store(f"s3://{request.getfixturevalue('faulty_s3').bucket.name}/kept")
    return open_store(str(tmp_path / "store") if request.param == "folder" else f"memory://{secrets.token_hex(8)}")


@pytest.fixture
def checkpoint(store: Store) -> Checkpoint:
    return Checkpoint(store, "pydocs", IDENTITY.fingerprint)


@pytest.fixture
def quick() -> Checkpoint:
    """In memory, where the store makes no difference."""
    return Checkpoint(open_store(f"memory://{secrets.token_hex(8)}"), "pydocs", IDENTITY.fingerprint)
