"""Jobs whose collection is in memory: a run takes a moment, and its rows are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.adapters.targets.memory_collection import memory_servers
from tests.builders.kitestring import make_job

REPLAY = "flows.replay.replay_seals"


def a_job(folder: Path, model: Path, name: str = "", **settings: Any) -> dict[str, Any]:
    return make_job(folder, model, target__uri=f"memory://{folder.name}{name}", compute__processes=1, **settings)


def texts_in(job: dict[str, Any]) -> dict[str, str]:
    server = memory_servers[job["target"]["uri"]]
    return {key: row["text"] for key, row in server.rows[server.aliases["rows"]].items()}


def keys_in(job: dict[str, Any]) -> list[str]:
    return sorted(texts_in(job))


def ledger(job: dict[str, Any], pattern: str) -> list[Path]:
    return sorted(Path(job["checkpoint"]).glob(f"rows/*/loads/*/{pattern}"))
