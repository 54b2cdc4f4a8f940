"""The HTTP connection to a model server: token, error classification and JSON answers."""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import httpx
import orjson

from tasks.adapters.served.served_encoder import TOKEN_VARIABLE
from tasks.adapters.served.server_answers import Faulty, NoVectors, Refused, ServerBusy, Unanswered
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import without_credentials

HTTP_CONNECT_SECONDS = 10.0
BUSY_STATUS = {429, 503}
WRONG_TOKEN = {401, 403}
LONGEST_WORDS = 300  # characters of a server's error message


class ServerConnection:
    """A pool of connections. Thread-safe.

    Args:
        url: the server's address; request paths are appended to it.
        token: the server's token, sent as a bearer token; never in a message.
        seconds: timeout of an answer.
    """

    def __init__(self, url: str, token: str | None, *, seconds: float) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._closed, self._lock = False, threading.Lock()
        secure = not self.url.startswith("http://")  # for http skip loading the certificate authorities, which takes a fifth of a second
        self._client = httpx.Client(
            verify=secure, headers=headers, timeout=httpx.Timeout(seconds, connect=HTTP_CONNECT_SECONDS), limits=unlimited
        )

    def get(self, path: str) -> Any:
        """Get a JSON document. Raises as `post`."""
        return document_of(self._ask("GET", path).content)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post a JSON document and return the JSON answer.

        Raises:
            NoVectors: no usable answer; the subclass decides how to proceed.
            BadInput: the token is refused, or the path or model does not exist.
        """
        return document_of(self.send(path, orjson.dumps(body), {"Content-Type": "application/json"}).content)

    def send(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Post bytes and return the response. Raises as `post`."""
        return self._ask("POST", path, content=content, headers=headers)

    def close(self) -> None:
        """Close the connections and wake threads that wait for an answer, which needs a shutdown of their sockets."""
        with self._lock:
            self._closed = True
            for each in list(self._sockets):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                if self._closed:
                    raise httpx.ConnectError("the connection pool is closed")
                self._sockets.add(info["return_value"].get_extra_info("socket"))

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, f"{self.url}{path}", extensions={"trace": self._trace}, **request)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadInput(f"encoder.url: '{self.url}' is not an address of a server: {error}") from error
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client is closed
            raise Unanswered(f"{self.url} does not answer ({_text_of(error)})") from error
        if answer.status_code != 200:
            raise self._error(answer, path)
        return answer

    def _error(self, answer: httpx.Response, path: str) -> NoVectors | BadInput:
        status = answer.status_code
        text = f"{self.url} answers {status}: {_message_of(answer)}"
        if status in WRONG_TOKEN:
            return BadInput(f"{text}: set {TOKEN_VARIABLE} (or encoder.token_block) to a token with access")
        if status in {404, 405}:
            return BadInput(f"{text}: nothing is served at {path}: correct encoder.url, encoder.api or encoder.model")
        if status in BUSY_STATUS:
            return ServerBusy(text, _retry_after(answer))
        if status >= 500 or status in {408, 424}:
            return Faulty(text)
        return Refused(text)


def document_of(content: bytes) -> Any:
    """Parse a JSON document; accepts NaN, which some servers write although JSON does not have it.

    Raises:
        Faulty: it is not JSON.
    """
    with suppress(ValueError):
        return orjson.loads(content)
    try:
        return json.loads(content)
    except ValueError as error:
        raise Faulty(f"the server's answer is not a JSON document ({len(content):,} bytes)") from error


def _message_of(answer: httpx.Response) -> str:
    """The message in an error's body, in one line."""
    message: Any = answer.text
    with suppress(ValueError):
        message = answer.json()
    for name in ("error", "message", "detail"):
        if isinstance(message, dict) and name in message:
            message = message[name]
    line = " ".join(str(message).split())
    return without_credentials(line[:LONGEST_WORDS]) or answer.reason_phrase


def _retry_after(answer: httpx.Response) -> float | None:
    """The header Retry-After in seconds; servers send seconds or a date."""
    header = answer.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(header))
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return None


def _text_of(error: Exception) -> str:
    return without_credentials(" ".join(str(error).split())) or type(error).__name__
