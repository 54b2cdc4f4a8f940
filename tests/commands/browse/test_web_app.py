"""The HTTP API: one clear sentence for every mistake, whatever fails; several requests at once; nothing of ours in an answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from tasks.commands.browse.guest_access import Access
from tasks.commands.browse.job_search import JobSearch, SearchAnswer
from tasks.commands.browse.search_request import SearchRequest
from tasks.commands.browse.source_pictures import SourcePictures
from tasks.commands.browse.web_app import BODY_BYTES, PAGE_FOLDER, BrowseApp
from tasks.domain.errors import BadInput, NoAnswer, Permanent, Transient
from tasks.domain.target.collection import Hit

ADDRESS = "http://127.0.0.1:8642"


class Search:
    """Stands in for the collections; `fails`: what a search raises."""

    def __init__(self) -> None:
        self.job = SimpleNamespace(corpus="c", target=SimpleNamespace(collection="c"), source=SimpleNamespace(modality="text"))
        self.takes_pictures = False
        self.fails: Exception | None = None
        self.waits = threading.Barrier(1)
        self.loading = 0.0

    def load(self) -> None:
        raise Permanent("no such weights")

    def collections(self) -> list[dict[str, Any]]:
        return []

    def search(self, request: SearchRequest) -> SearchAnswer:
        self.waits.wait(30)
        if self.fails:
            raise self.fails
        hit = Hit(id="a", score=1.0, fields={"text": "lone \ud800", "x": float("nan"), "big": 2**60})
        return SearchAnswer(collection="c_1", mode="dense", hits=[hit][: request.k], passages={}, model_seconds=self.loading)


@pytest.fixture
def search() -> Search:
    return Search()


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return tmp_path / "q.jsonl"


@pytest.fixture
def client(search: Search, questions: Path) -> TestClient:
    pictures = SimpleNamespace(of=lambda keys: dict.fromkeys(keys, b"jpeg"))
    access = Access.at("127.0.0.1", 8642)
    app = BrowseApp(
        cast("JobSearch", search), cast("SourcePictures", pictures), access, questions=str(questions), where="target.gate.queries"
    )
    return TestClient(app.asgi(), base_url=ADDRESS, raise_server_exceptions=False)


def test_a_search_gives_hits_that_are_json_whatever_they_hold(client: TestClient) -> None:
    answer = client.post("/search", json={"text": "words"})
    assert answer.status_code == 200
    (hit,) = answer.json()["hits"]
    assert hit == {"id": "a", "score": 1.0, "text": "lone \ud800", "fields": {"x": None, "big": 2**60}}
    assert "NaN" not in answer.text


def test_the_models_loading_does_not_count_as_the_searchs_time(client: TestClient, search: Search) -> None:
    search.loading = 3_600.0
    answer = client.post("/search", json={"text": "words"}).json()
    assert (answer["seconds"], answer["model_seconds"]) == (0.0, 3_600.0)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BadInput("filter 'x' was refused"), 400, "filter 'x' was refused"),
        (NoAnswer("no Milvus at 127.0.0.1:1"), 503, "no Milvus at 127.0.0.1:1"),
        (Transient("busy"), 503, "busy"),
        (Permanent("the model is gone"), 500, "the model is gone"),
        (Permanent("s3://user:secret@host/a\nb"), 500, "s3://host/a b"),
        (RuntimeError("shape [3] s3://user:secret@host"), 500, "the request failed unexpectedly (RuntimeError)"),
    ],
)
def test_an_error_is_one_sentence_with_its_status(
    client: TestClient, search: Search, caplog: pytest.LogCaptureFixture, error: Exception, status: int, said: str
) -> None:
    search.fails = error
    answer = client.post("/search", json={"text": "words"})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "secret" not in answer.text + caplog.text
    assert "Traceback" not in answer.text + caplog.text


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"x", 400, "the request is not JSON"),
        (b"[1]", 400, "not a JSON object"),
        (b'{"text": "a", "k": 0}', 400, "'k' must be at least 1, not 0"),
        (b'{"text": "a", "mode": "fuzzy"}', 400, "'mode' must be 'dense', 'text', 'hybrid' or 'sparse', not 'fuzzy'"),
        (b'{"txt": "a"}', 400, "'txt' is not a setting; did you mean 'text'?"),
        (b'{"text": "a", "where": [{"field": "b", "is": "~", "value": 1}]}', 400, "'where"),
        (b'{"text": "' + b"a" * BODY_BYTES + b'"}', 413, "the request has more than"),
        (b"[" * 100_000, 400, "the request is not JSON"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client: TestClient, body: bytes, status: int, said: str) -> None:
    answer = client.post("/search", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text


def test_several_requests_are_worked_on_at_once(client: TestClient, search: Search) -> None:
    search.waits = threading.Barrier(8)  # each waits for all
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(client.post("/search", json={"text": "a"}).status_code)) for _ in range(8)]
    with client:  # one event loop for all
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert statuses == [200] * 8


def test_a_question_is_saved_and_known_at_the_next_search(client: TestClient, questions: Path) -> None:
    assert client.post("/search", json={"text": "words"}).json()["relevant"] == []
    assert client.post("/questions", json={"query": "words", "relevant": ["a", "a"]}).json()["new"]
    assert json.loads(questions.read_text()) == {"query": "words", "relevant": ["a"]}
    assert client.post("/search", json={"text": "words"}).json()["relevant"] == ["a"]
    refused = client.post("/questions", json={"query": "words", "relevant": []})
    assert (refused.status_code, "at least one" in refused.json()["error"]) == (400, True)


def test_every_answer_keeps_other_sites_out(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/info"), client.get("/none"), client.get("/info", headers={"host": "evil.example"})):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.get("/info", headers={"host": "evil.example"}).status_code == 421
    assert client.post("/search", json={"text": "a"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/../pyproject.toml").status_code == client.get("/search").status_code - 1 == 404


def test_the_page_asks_no_other_host_for_anything() -> None:
    text = "".join(path.read_text() for path in PAGE_FOLDER.iterdir())
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "innerHTML" not in text


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(search: Search) -> None:
    access = Access.at("0.0.0.0", 8642)
    app = BrowseApp(cast("JobSearch", search), cast("SourcePictures", None), access, questions=None, where="")
    client = TestClient(app.asgi(), base_url="http://gpu1:8642", follow_redirects=False)
    assert client.get("/").status_code == 401
    moved = client.get("/", params={"token": access.token or ""})
    assert (moved.status_code, moved.headers["location"]) == (303, "/")
    assert "HttpOnly" in moved.headers["set-cookie"]
    assert client.get("/").status_code == 200
    assert access.token not in client.get("/info").text
