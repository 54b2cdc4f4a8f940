"""What a server does to a batch: tried again, halved, and a row set aside alone."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tasks.adapters.served.row_isolation import embed_batch
from tasks.domain.errors import Permanent, Transient
from tasks.worker.base import unit_length
from tests.builders.engines.embedding_server import BOOM, CRASH, HUGE, POISON, Connect, EmbeddingServer
from tests.builders.engines.hash_encoders import DIM

TEXTS = [f"text {row}" for row in range(9)]
ONCE = ["broken", "dies", "truncated", "nan", "dimension", "few"]


@pytest.mark.parametrize("fault", ONCE)
def test_a_batch_that_fails_once_is_tried_again_whole(connect: Connect, server: EmbeddingServer, fault: str) -> None:
    model = connect()
    model.facts()
    before = len(server.requests)
    server.faults = [(fault, ())]
    outcome = embed_batch(model, TEXTS, DIM)
    assert not outcome.refused
    np.testing.assert_allclose(outcome.vectors, unit_length(server.vectors(TEXTS)), atol=1e-6)
    asked_again = 0 if fault == "nan" else 1  # who it is, after an answer that was none
    assert len(server.requests) - before == 2 + asked_again


def test_an_answer_that_comes_too_late_is_asked_for_again(connect: Connect, server: EmbeddingServer) -> None:
    model = connect(patience=1.0)
    model.facts()
    server.faults = [("slow", (3.0,))]
    outcome = embed_batch(model, TEXTS, DIM)
    assert not outcome.refused
    np.testing.assert_allclose(outcome.vectors, unit_length(server.vectors(TEXTS)), atol=1e-6)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (POISON, "not finite: the model gave NaN"),
        (BOOM, "encoder: .* answers 500: inference failed"),
        (CRASH, "encoder: .* does not answer"),
        (HUGE, "encoder: .* answers 413: too large"),
    ],
)
def test_a_row_that_the_server_cannot_embed_is_set_aside_alone(connect: Connect, server: EmbeddingServer, word: str, reason: str) -> None:
    texts = [*TEXTS[:4], f"a {word}", *TEXTS[4:]]
    outcome = embed_batch(connect(), texts, DIM)
    assert list(outcome.refused) == [4]
    assert re.match(reason, outcome.refused[4])
    good = [at for at in range(10) if at != 4]
    np.testing.assert_allclose(outcome.vectors[good], unit_length(server.vectors([texts[at] for at in good])), atol=1e-6)


@pytest.mark.parametrize(("then", "alone"), [([], False), (["dies"], True), (["broken", "dies"], True), (["broken"], True)])
def test_a_batch_is_tried_again_alone_if_the_server_died_with_an_answer_of_500(
    connect: Connect, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, then: list[str], alone: bool
) -> None:
    model, tried = connect(), list[bool]()
    model.facts()
    with monkeypatch.context() as patched:
        embed_rows = model.embed_rows
        patched.setattr(model, "embed_rows", lambda texts, alone: tried.append(alone) or embed_rows(texts, alone=alone))
        server.faults = [(fault, ()) for fault in ["broken", *then]]
        outcome = embed_batch(model, TEXTS, DIM)
    assert not outcome.refused
    assert tried == [False, alone]


@pytest.mark.parametrize("fault", ["dies", "broken", "dimension"])
def test_a_server_that_comes_back_with_another_model_ends_it_before_a_row_is_taken(
    connect: Connect, server: EmbeddingServer, fault: str
) -> None:
    model = connect()
    model.facts()
    server.faults, server.words = [(fault, ())], "others"
    with pytest.raises(Permanent, match="serves another model"):
        embed_batch(model, TEXTS, DIM)


def test_no_row_is_set_aside_for_a_server_that_is_gone(connect: Connect, server: EmbeddingServer) -> None:
    model = connect(patience=60)
    model.facts()
    server.faults = [("dies", ())] * 50
    with pytest.raises(Transient, match="no vectors for"):
        embed_batch(model, TEXTS, DIM)
