"""Documents that become several chunks each, and jobs on them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.builders.kitestring import make_job


def words(count: int, seed: int = 0) -> str:
    """A text of so many words that the tiny model knows, one token each."""
    some = random.Random(seed)
    return " ".join(some.choice(["the", "of", "and", "it", "to"]) for _ in range(count))


def write_documents(path: Path, documents: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": key, "text": text, "topic": key[:1]}) + "\n" for key, text in documents.items()))


def job_of(folder: Path, model: Path, **changes: Any) -> dict[str, Any]:
    """16 tokens in a chunk: 14 words beside the two special tokens."""
    job = make_job(folder, model, failures__on_duplicate="last", **{"target__mode": "mirror", "target__allow_shrink": True, **changes})
    job["source"] = {
        "kind": "jsonl",
        "uri": str(folder / "docs"),
        "id": "id",
        "text": "text",
        "metadata": ["topic"],
        "chunks": {"tokens": 16},
    }
    return job


def chunks(document: str, count: int) -> list[str]:
    return [f"{document}#{number}" for number in range(count)]
