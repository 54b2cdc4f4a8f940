"""Encoders that have no rank: texts go to a server over HTTP, and its vectors into parts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx
import numpy as np
from pydantic import ConfigDict, JsonValue

from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.model_metadata import ModelShape
from tasks.domain.digest import digest
from tasks.domain.errors import Permanent, Transient
from tasks.domain.job.encoder import EncoderFacts, EncoderKind, EncoderSettings
from tests.builders.engines.hash_encoders import DIM, HashEncoders, vectors_of_texts

AT_ONCE = 32  # texts in a request, as servers of embeddings allow


class HttpEncoder(EncoderSettings):
    """Where the server is."""

    model_config = ConfigDict(title="HTTP")

    kind: Literal["http"] = "http"
    url: str = "http://localhost:8080"
    precision: Literal["float32"] = "float32"

    @property
    def model_name(self) -> str:
        return "the server's"

    @property
    def declared(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"url"})

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {}


def locate(_encoder: HttpEncoder) -> LocatedModel:
    return LocatedModel(path="", weights=digest("the server's"), revision=None)


def shape(_encoder: HttpEncoder, _located: LocatedModel) -> ModelShape:
    return ModelShape(dim=DIM)


class HttpEncoders(HashEncoders):
    """`Encoders` of a server; the thread that reads its answers is all that is here."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        assert isinstance(place.job.encoder, HttpEncoder)
        self._client = httpx.Client(base_url=place.job.encoder.url, timeout=10)

    def facts(self) -> EncoderFacts:
        return EncoderFacts.model_validate(self._ask("GET", "/info", None))

    def vectors(self, texts: list[str]) -> np.ndarray:
        asked = (texts[at : at + AT_ONCE] for at in range(0, len(texts), AT_ONCE))
        answered = [vector for some in asked for vector in self._ask("POST", "/embed", {"inputs": some})]
        return np.array(answered, np.float32).reshape(-1, DIM)

    def close(self) -> None:
        super().close()
        self._client.close()

    def _ask(self, method: str, path: str, body: object) -> list[list[float]]:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Transient(f"the encoder's server does not answer: {error}") from error
        if answer.status_code >= 500:
            raise Transient(f"the encoder's server is busy: {answer.status_code}")
        if answer.status_code != 200:
            raise Permanent(f"the encoder's server refuses a request: {answer.status_code}")
        found: list[list[float]] = answer.json()
        return found


HTTP = EncoderKind(
    settings=HttpEncoder,
    worker="nowhere:Nothing",
    files=f"{__name__}:locate",
    shape=f"{__name__}:shape",
    modalities=("text",),
    needs_torch=False,
    encoders=f"{__name__}:HttpEncoders",
)


class VectorServer(ThreadingHTTPServer):
    """What serves them. `busy`: so many requests are answered with 503 first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: list[str] = []  # that it was sent
        self.busy = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: VectorServer

    def do_GET(self) -> None:
        self._answer(200, {"dim": DIM, "max_seq_length": None, "precision": "float32", "device": "served"})

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        if self.server.busy:
            self.server.busy -= 1
            self._answer(503, {})
            return
        self.server.texts += texts
        self._answer(200, vectors_of_texts(texts).tolist())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def vector_server() -> Iterator[VectorServer]:
    """A server in threads of this process."""
    with VectorServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True, name="vector-server").start()
        try:
            yield server
        finally:
            server.shutdown()
