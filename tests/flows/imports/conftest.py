"""A collection of its own on the real server, which is imported into."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.servers.milvus import MilvusProcess


@pytest.fixture
def target(milvus_server: MilvusProcess, tmp_path: Path) -> dict[str, Any]:
    name = f"import_{uuid.uuid4().hex[:8]}"
    return {"uri": milvus_server.uri, "collection": name, "load": "import", "staging": str(tmp_path / "staging")}
