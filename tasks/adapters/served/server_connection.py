"""HTTP to a server of embeddings: its token, its errors, and what it answers."""

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
LONGEST_WORDS = 300  # characters of an error that a server gives


class ServerConnection:
    """A pool of connections. One object may be used from many threads.

    Args:
        url: of the server; paths of requests go behind it.
        token: of the server, sent as a bearer token; never in a message.
        seconds: for which an answer is waited for.
    """

    def __init__(self, url: str, token: str | None, *, seconds: float) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._closed, self._lock = False, threading.Lock()
        secure = not self.url.startswith("http://")  # else no certificate is checked, and loading the authorities takes a fifth of a second
        self._client = httpx.Client(
            verify=secure, headers=headers, timeout=httpx.Timeout(seconds, connect=HTTP_CONNECT_SECONDS), limits=unlimited
        )

    def get(self, path: str) -> Any:
        """A JSON document. Raises as `post`."""
        return document_of(self._ask("GET", path).content)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON document that answers another.

        Raises:
            NoVectors: no usable answer; which, says what may be done next.
            BadInput: the token is refused, or there is no such path or model.
        """
        return document_of(self.send(path, orjson.dumps(body), {"Content-Type": "application/json"}).content)

    def send(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """The answer to some bytes. Raises as `post`."""
        return self._ask("POST", path, content=content, headers=headers)

    def close(self) -> None:
        """Let go of the connections; whoever waits for an answer waits no longer, which closing a socket alone does not do."""
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
                    raise httpx.ConnectError("the connection was closed meanwhile")
                self._sockets.add(info["return_value"].get_extra_info("socket"))

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, f"{self.url}{path}", extensions={"trace": self._trace}, **request)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadInput(f"encoder.url: '{self.url}' is no address of a server: {error}") from error
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            raise Unanswered(f"{self.url} does not answer ({_words(error)})") from error
        if answer.status_code != 200:
            raise self._error(answer, path)
        return answer

    def _error(self, answer: httpx.Response, path: str) -> NoVectors | BadInput:
        status = answer.status_code
        words = f"{self.url} answers {status}: {_told(answer)}"
        if status in WRONG_TOKEN:
            return BadInput(f"{words}: set {TOKEN_VARIABLE} (or encoder.token_block) to a token that may use it")
        if status in {404, 405}:
            return BadInput(f"{words}: nothing is served at {path}: correct encoder.url, encoder.api or encoder.model")
        if status in BUSY_STATUS:
            return ServerBusy(words, _retry_after(answer))
        if status >= 500 or status in {408, 424}:
            return Faulty(words)
        return Refused(words)


def document_of(content: bytes) -> Any:
    """A JSON document; some servers write NaN, which JSON does not have.

    Raises:
        Faulty: it is none.
    """
    with suppress(ValueError):
        return orjson.loads(content)
    try:
        return json.loads(content)
    except ValueError as error:
        raise Faulty(f"the server's answer is no JSON document ({len(content):,} bytes)") from error


def _told(answer: httpx.Response) -> str:
    """What an error's body says, in a line."""
    found: Any = answer.text
    with suppress(ValueError):
        found = answer.json()
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    line = " ".join(str(found).split())
    return without_credentials(line[:LONGEST_WORDS]) or answer.reason_phrase


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds, which a server says as such or as a date."""
    said = answer.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(said))
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    return None


def _words(error: Exception) -> str:
    return without_credentials(" ".join(str(error).split())) or type(error).__name__
