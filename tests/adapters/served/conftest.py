"""A server of embeddings, and models that ask it without waiting for a real clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.job.parse import parse_job
from tests.builders.engines.embedding_server import Connect, EmbeddingServer, embedding_server


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture(params=["openai", "tei", "triton"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def slept() -> list[float]:
    """Seconds that were waited; the clock stands still otherwise."""
    return []


@pytest.fixture
def connect(server: EmbeddingServer, api: str, slept: list[float]) -> Iterator[Connect]:
    """Models of the server; `settings` are the encoder's, other arguments the model's."""
    opened: list[ServedModel] = []

    def connected(settings: dict[str, Any] | None = None, **more: Any) -> ServedModel:
        encoder = cast("ServedEncoder", parse_job({"encoder": server.settings(api, **settings or {})}).encoder)
        policy = RetryPolicy(first=1, sleep=slept.append, clock=lambda: sum(slept), jitter=lambda: 1.0)
        opened.append(ServedModel(encoder, policy=policy, **more))
        return opened[-1]

    yield connected
    for model in opened:
        model.close()
