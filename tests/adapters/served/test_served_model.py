"""A served model over each protocol: who it is, and that no vector is taken from another."""

from __future__ import annotations

import logging
import threading
from typing import Any, cast

import numpy as np
import pytest

from tasks.adapters.served.located import locate_served
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_question import served_question
from tasks.adapters.served.server_answers import Faulty, as_vectors
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.parse import parse_job
from tasks.domain.served_identity import PROBES
from tasks.worker.base import unit_length
from tests.builders.engines.embedding_server import HUGE, MODEL, TOKEN, Connect, EmbeddingServer, embedding_server
from tests.builders.engines.hash_encoders import DIM

TEXTS = ["a kite", "wind and a line", "日本 凧"]


def test_a_models_facts_are_what_its_server_says_of_it(connect: Connect, api: str) -> None:
    facts = connect().facts()
    assert (facts.dim, facts.device, facts.precision) == (DIM, f"{api} server", "float32")
    assert facts.max_seq_length == (None if api == "triton" else 512)
    assert facts.server
    assert facts.server.told[{"openai": "id", "tei": "model_id", "triton": "name"}[api]] == MODEL
    assert len(facts.server.heads) == len(PROBES) * DIM


def test_vectors_come_back_in_the_order_of_the_texts(connect: Connect, server: EmbeddingServer) -> None:
    found = connect().embed_rows(TEXTS)
    np.testing.assert_allclose(found, unit_length(server.vectors(TEXTS)), atol=1e-6)


def test_each_side_has_its_own_prompt_and_fields(connect: Connect, server: EmbeddingServer) -> None:
    sides = {"prompt": "row: ", "query_prompt": "query: ", "parameters": {"type": "passage"}, "query_parameters": {"type": "query"}}
    model = connect({**sides, "normalize": False, "truncate_dim": 8})
    rows, questions = model.embed_rows(["a kite"]), model.embed_questions(["a kite"])
    np.testing.assert_allclose(rows, server.vectors(["row: a kite"])[:, :8], rtol=1e-5)
    np.testing.assert_allclose(questions, server.vectors(["query: a kite"])[:, :8], rtol=1e-5)
    assert [(body.get("parameters") or body)["type"] for body in server.requests[-2:]] == ["passage", "query"]


def test_a_request_holds_no_more_than_the_server_takes_and_a_canary(connect: Connect, server: EmbeddingServer) -> None:
    server.most_rows = 4
    model = connect(batch_rows=4)
    model.facts()
    assert model.most_rows == 3
    assert len(model.embed_rows(["a"] * 3)) == 3


@pytest.mark.parametrize("api", ["tei", "triton"], indirect=True)
def test_a_server_that_gives_a_vector_for_each_token_is_refused_at_once(
    connect: Connect, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    exact, model = server.vectors, connect()
    monkeypatch.setattr(server, "vectors", lambda texts: np.stack([exact(texts)] * 3, axis=1))
    with pytest.raises(BadInput, match=r"returns a vector for each token of a text .* serve a model that returns one"):
        model.facts()
    assert slept == []


def test_texts_with_as_many_vectors_as_tokens_are_told_from_vectors() -> None:
    with pytest.raises(BadInput, match="a vector for each token"):
        as_vectors([[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])
    with pytest.raises(Faulty, match="differ in length, as from models that return one per token"):
        as_vectors([np.ones(2), np.ones(4)])
    assert as_vectors([[1.0, None]]).shape == (1, 2)


def test_a_restarted_server_with_the_same_model_is_the_same(connect: Connect) -> None:
    first = connect().facts()
    assert connect(pinned=first.server).facts() == first


def test_rounding_is_no_other_model(connect: Connect, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, exact = connect().facts().server, server.vectors
    noise = np.random.default_rng(1)
    monkeypatch.setattr(server, "vectors", lambda texts: (v := exact(texts)) * (1 + 0.01 * noise.standard_normal(v.shape)))
    model = connect(pinned=pinned)
    assert model.facts().server == pinned
    assert model.embed_rows(TEXTS).shape == (3, DIM)


def test_another_model_behind_the_name_is_refused_at_the_start(connect: Connect, server: EmbeddingServer) -> None:
    pinned = connect().facts().server
    server.words = "others"
    with pytest.raises(BadInput, match=r"another model than the one this corpus.*vectors of fixed texts.*set encoder\.revision"):
        connect(pinned=pinned).facts()


@pytest.mark.parametrize("api", ["tei"], indirect=True)
def test_the_same_model_in_another_type_is_refused_by_what_the_server_says(connect: Connect, server: EmbeddingServer) -> None:
    pinned = connect().facts().server
    server.told["model_dtype"] = "int8"
    with pytest.raises(BadInput, match="model_dtype is 'int8', and was 'float16'"):
        connect(pinned=pinned).facts()


def test_no_vector_is_taken_from_a_server_that_changed_its_model_meanwhile(connect: Connect, server: EmbeddingServer) -> None:
    model = connect()
    model.embed_rows(TEXTS)
    server.words = "others"
    sent = model.now()
    with pytest.raises(Faulty, match="a different vector than before for the text that is part of each request"):
        model.embed_rows(TEXTS)
    with pytest.raises(Permanent, match="serves another model"):
        model.confirm(sent)
    server.words = MODEL
    with pytest.raises(Permanent, match="serves another model"):  # the run is over, whatever comes back
        model.embed_rows(TEXTS)


def test_a_token_that_is_refused_under_way_is_no_bad_input(connect: Connect, server: EmbeddingServer) -> None:
    model = connect()
    model.facts()
    server.token = TOKEN
    with pytest.raises(Permanent, match="answers 401") as caught:
        model.embed_rows(TEXTS)
    assert not isinstance(caught.value, BadInput)  # a shard that fails for bad input loses its parts


def test_retry_after_is_obeyed_by_every_request_and_halves_those_in_flight(
    connect: Connect, server: EmbeddingServer, slept: list[float]
) -> None:
    model = connect()
    model.facts()
    server.faults = [("busy", (7,)), ("busy", (2,))]
    assert len(model.embed_rows(TEXTS)) == 3
    assert slept == [7, 2]
    assert model.in_flight.limit == 1


def test_a_server_that_stays_busy_is_told_as_passing(connect: Connect, server: EmbeddingServer) -> None:
    model = connect(patience=60)
    model.facts()
    server.faults = [("busy", (25,))] * 9
    with pytest.raises(Transient, match=r"too busy for 60 s: .* answers 429: busy"):
        model.embed_rows(TEXTS)


def test_a_server_that_is_busy_at_first_is_waited_for(connect: Connect, server: EmbeddingServer, slept: list[float]) -> None:
    server.faults = [("busy", (100,))]
    assert connect(startup=300).facts().dim == DIM
    assert slept == [100]


def test_an_address_where_nothing_answers_is_bad_input_soon(connect: Connect, slept: list[float]) -> None:
    with embedding_server() as gone:
        url = gone.url
    with pytest.raises(BadInput, match=r"encoder.url: http://127.* does not answer .*: start the server"):
        connect({"url": url}, startup=1800).facts()
    assert 20 < sum(slept) < 60


def test_a_server_that_refuses_the_texts_by_which_it_is_known_is_told_as_running(connect: Connect, slept: list[float]) -> None:
    with pytest.raises(BadInput, match=r"answers 413: too large: .* {truncate_prompt_tokens: -1}") as caught:
        connect({"prompt": f"{HUGE}: "}).facts()
    assert "start the server" not in str(caught.value)
    assert slept == []


def test_a_name_that_the_server_does_not_have_is_bad_input(connect: Connect, api: str) -> None:
    words = {"openai": "serves no 'nobody'; it has: other, words", "tei": "serves 'words', not 'nobody'", "triton": "answers 404"}[api]
    with pytest.raises(BadInput, match=words):
        connect({"model": "nobody"}).facts()


def test_the_token_is_sent_and_is_in_no_message_and_no_log(
    connect: Connect, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.token = TOKEN
    with pytest.raises(BadInput, match=r"answers 401: .*set ENCODER_TOKEN") as refused:
        connect().facts()
    monkeypatch.setenv("ENCODER_TOKEN", TOKEN)
    facts = connect().facts()
    assert TOKEN not in str(refused.value) + facts.model_dump_json() + caplog.text


def test_the_code_for_applications_embeds_a_question_as_the_job_does(connect: Connect, server: EmbeddingServer, api: str) -> None:
    settings = {"query_prompt": "query: ", "query_parameters": {"type": "query"}, "truncate_dim": 8}
    encoder = cast("ServedEncoder", parse_job({"encoder": server.settings(api, **settings)}).encoder)
    names: dict[str, Any] = {}
    exec(served_question(encoder, locate_served(encoder)), names)
    np.testing.assert_allclose(names["embed"]("a kite"), connect(settings).embed_questions(["a kite"])[0], atol=1e-6)
    sent, ours = server.requests[0], server.requests[-1]
    assert (sent.get("parameters") or sent)["type"] == (ours.get("parameters") or ours)["type"] == "query"


def test_a_request_under_way_fails_when_the_model_is_closed(connect: Connect, server: EmbeddingServer) -> None:
    model = connect()
    model.facts()
    server.hold, before = 99, len(server.requests)

    def close() -> None:
        with server.changed:
            server.changed.wait_for(lambda: len(server.requests) > before)
        model.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(Exception, match="does not answer"):
        model.embed_rows(TEXTS)
    closing.join()
    server.hold = 0
    with server.changed:
        server.changed.notify_all()


@pytest.mark.parametrize("whole", [True, False])
def test_rows_that_would_be_cut_are_refused_where_chunks_are_sent_to_a_server_that_can_be_asked(
    connect: Connect, server: EmbeddingServer, api: str, whole: bool
) -> None:
    connect(whole=whole).embed_rows(["a"])
    assert server.requests[-1].get("truncate") == ((not whole) if api == "tei" else None)
