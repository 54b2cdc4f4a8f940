"""A server of embeddings in threads of this process: all three protocols, vectors made from words, and every fault that is known."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tasks.adapters.served.served_model import ServedModel
from tasks.domain.served_identity import PROBES
from tests.builders.engines.hash_encoders import DIM, vectors_of_texts

MODEL = "words"
TOKEN = "s3cr3t-of-the-server"
POISON, BOOM, CRASH, HUGE = "poison", "boom", "crash", "huge"  # words: NaN, an error of 500, the server dies, the text is refused


Connect = Callable[..., ServedModel]  # of a fixture that opens models of a server


class EmbeddingServer(ThreadingHTTPServer):
    """What serves.

    faults      done to the next requests for vectors, one each: a name of `_Handler`'s methods, and its arguments
    bad         texts for which every request that holds one has such a fault
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.changed = threading.Condition()
        self.words = MODEL  # another one: other vectors
        self.told: dict[str, Any] = {"model_sha": "abc", "model_dtype": "float16", "max_input_length": 512}
        self.most_rows = 32
        self.token: str | None = None
        self.faults: list[tuple[str, tuple[Any, ...]]] = []
        self.texts: list[str] = []  # that were embedded, probes left out
        self.described = 0  # times that it was asked what it serves
        self.requests: list[dict[str, Any]] = []  # documents of requests for vectors
        self.hold = 0  # requests that wait until so many are there
        self.together, self.most_together = 0, 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def settings(self, api: str, **more: Any) -> dict[str, Any]:
        """An `encoder` that asks it."""
        return {"kind": "served", "api": api, "url": self.url + ("/v1" if api == "openai" else ""), "model": MODEL, **more}

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Float32 of shape (texts, DIM)."""
        words = [" ".join(f"{self.words}:{word}" for word in text.split()) or self.words for text in texts]
        return vectors_of_texts(words) * (1 if self.words == MODEL else 2)


class Died(Exception):
    """The connection is closed without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: EmbeddingServer

    def do_GET(self) -> None:
        self._served(self._describe)

    def do_POST(self) -> None:
        self._served(self._embed)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _served(self, act: Callable[[], None]) -> None:
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, {"error": "who are you?"})
            return
        try:
            act()
        except Died:
            self.close_connection = True

    def _describe(self) -> None:
        server, metadata = self.server, {"name": MODEL, "versions": ["1"], "platform": "ensemble"}
        server.described += 1
        found = {
            "/v1/models": {"data": [{"id": "other"}, {"id": MODEL, "created": server.described, "max_model_len": 512}]},
            "/info": {"model_id": MODEL, **server.told, "max_client_batch_size": server.most_rows, "version": "1.8"},
            f"/v2/models/{MODEL}": {
                **metadata,
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}],
                "outputs": [
                    {"name": "tokens", "datatype": "INT64", "shape": [-1]},
                    {"name": "vector", "datatype": "FP32", "shape": [-1, DIM]},
                ],
            },
            f"/v2/models/{MODEL}/config": {"max_batch_size": server.most_rows},
        }.get(self.path)
        self._answer(200 if found else 404, found or {"error": "not found"})

    def _embed(self) -> None:
        server, raw = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers.get("Inference-Header-Content-Length") or len(raw))
        body = json.loads(raw[:length])
        self.binary = length < len(raw) or body.get("encoding_format") == "base64"
        texts = body.get("input", body.get("inputs"))
        if self.path.endswith("/infer"):
            texts = list(_strings(raw[length:])) if self.binary else body["inputs"][0]["data"]
        with server.changed:
            server.requests.append(body)
            name, arguments = server.faults.pop(0) if server.faults else ("", ())
            server.together += 1
            server.most_together = max(server.most_together, server.together)
            server.changed.notify_all()
            server.changed.wait_for(lambda: server.most_together >= server.hold, timeout=30)
        try:
            self._give(texts, name, arguments)
        finally:
            with server.changed:
                server.together -= 1

    def _give(self, texts: list[str], fault: str, arguments: tuple[Any, ...]) -> None:
        if fault == "slow":
            time.sleep(arguments[0])
        if fault == "busy":
            self._answer(429, {"error": "busy"}, {"Retry-After": str(arguments[0])})
        elif fault == "broken" or any(BOOM in text for text in texts):
            self._answer(500, {"error": "inference failed"})
        elif fault == "swapped":
            self.server.words = arguments[0]
            raise Died
        elif fault == "dies" or any(CRASH in text for text in texts):
            raise Died
        elif any(HUGE in text for text in texts) or len(texts) > self.server.most_rows:
            self._answer(413, {"error": {"message": "too large"}})
        else:
            self._send_vectors(texts, fault)

    def _send_vectors(self, texts: list[str], fault: str) -> None:
        vectors = self.server.vectors(texts)
        vectors[[POISON in text for text in texts]] = np.nan
        if fault == "nan":
            vectors[1:] = np.nan
        elif fault == "dimension":
            vectors = np.hstack([vectors, vectors])
        elif fault == "few":
            vectors = vectors[:-1]
        with self.server.changed:
            self.server.texts += (
                [text for text in texts if not text.endswith(PROBES)] if fault in {"", "slow"} and np.isfinite(vectors).all() else []
            )
        kind, data, headers = self._encoded(vectors)
        self._answer_bytes(200, data, {"Content-Type": kind, **headers}, cut=len(data) // 2 if fault == "truncated" else 0)

    def _encoded(self, vectors: np.ndarray) -> tuple[str, bytes, dict[str, str]]:
        if self.path == "/embed":
            return "application/json", json.dumps(vectors.tolist()).encode(), {}
        if self.path == "/v1/embeddings":
            given = [base64.b64encode(vector.astype("<f4")).decode() if self.binary else vector.tolist() for vector in vectors]
            data = [{"index": at, "embedding": vector} for at, vector in enumerate(given)]
            return "application/json", json.dumps({"data": data[::-1]}).encode(), {}
        if not self.binary:
            output: dict[str, Any] = {"name": "vector", "datatype": "FP32", "shape": list(vectors.shape), "data": vectors.ravel().tolist()}
            return "application/json", json.dumps({"outputs": [output]}).encode(), {}
        raw = vectors.astype("<f4").tobytes()
        output = {"name": "vector", "datatype": "FP32", "shape": list(vectors.shape), "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"outputs": [output]}).encode()
        return "application/octet-stream", head + raw, {"Inference-Header-Content-Length": str(len(head))}

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._answer_bytes(status, json.dumps(body).encode(), headers or {})

    def _answer_bytes(self, status: int, data: bytes, headers: dict[str, str], *, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        self.close_connection = self.close_connection or bool(cut)


def _strings(raw: bytes) -> Iterator[str]:
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        yield raw[at + 4 : at + 4 + length].decode()
        at += 4 + length


@contextmanager
def embedding_server(port: int = 0) -> Iterator[EmbeddingServer]:
    """A server, until the context ends."""
    with EmbeddingServer(port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True, name="embedding-server").start()
        try:
            yield server
        finally:
            server.shutdown()
