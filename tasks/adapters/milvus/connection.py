"""One connection to Milvus: opened at the first call, shared by threads, with translated errors."""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient
from pymilvus.exceptions import ConnectionConfigException, MilvusException

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus import lite
from tasks.adapters.milvus.server_errors import RetryDecision, ServerAddress, judge, milvus_code, quieten, retried, text_of
from tasks.adapters.milvus.transport.certificates import Certificates
from tasks.adapters.milvus.transport.diagnosis import START_IT, why_silent
from tasks.adapters.milvus.transport.proxy import proxy_of
from tasks.domain.errors import BadInput, NoAnswer

T = TypeVar("T")

_GRPC = re.compile(r"^grpc(?=s?://)", re.IGNORECASE)  # users may write grpcs://, pymilvus expects https://
CONNECT_SECONDS, CALL_SECONDS = 5.0, 30.0


class Connection:
    """A MilvusClient that connects on first use."""

    def __init__(self, uri: str, *, database: str, token: str | None, patience: RetryPolicy, certificates: Certificates) -> None:
        self.lite = lite.is_lite(uri)
        self.uri = str(Path(uri).expanduser().absolute()) if self.lite else _GRPC.sub("http", uri)
        self.certificates = certificates
        self.database, self.patience = database, patience
        encoded = b64encode(token.encode()).decode() if token else ""  # as sent in the request's metadata
        secrets = [token, encoded, *token.split(":")[1:]] if token else []
        self.at = ServerAddress(uri, tuple(secret for secret in secrets if secret))
        self._token = token or ""
        self._client: Any = None
        self._version = ""
        self.closings = 0  # how many times it was closed
        self._lock = threading.RLock()

    @property
    def absent(self) -> bool:
        """True for a Milvus Lite file that does not exist yet."""
        return self.lite and not Path(self.uri).exists()

    @property
    def client(self) -> Any:
        """The client, connected.

        Raises:
            BadInput: the server does not answer, the token is refused, or another process has the Milvus Lite file open.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def version(self) -> str:
        """The version that the server reports; cached while connected."""
        if not self._version:
            ask = lambda: self.client.get_server_version(timeout=CALL_SECONDS)  # noqa: E731 - called again on a retry
            self._version = str(self.call(ask, "reading the server's version"))
        return self._version

    def call(self, action: Callable[[], T], doing: str, *, writes: bool = False) -> T:
        """Run an idempotent action with retries; see `retried` for its errors."""
        alone = partial(lite.alone, self.uri, action) if self.lite else action
        return retried(alone, doing, self.at, policy=self.patience, lite=self.lite, writes=writes)

    def _connect(self) -> Any:
        quieten()
        if self.lite:
            lite.take(self.uri, self.at.name)
        try:
            with self.certificates.client_options() as tls_options:
                # dedicated: otherwise pymilvus shares the connection among clients and keeps it open after close().
                options = {**tls_options, "grpc_options": {"grpc.enable_http_proxy": int(self.proxied)}, "dedicated": True}
                return MilvusClient(self.uri, token=self._token, db_name=self.database, timeout=CONNECT_SECONDS, **options)
        except (MilvusException, grpc.RpcError, ValueError) as error:
            if self.lite:
                lite.let_go(self.uri)
            raise self._unreachable(error) from None  # its text may repeat the token

    def _unreachable(self, error: Exception) -> BadInput:
        for reason in (error, error.__cause__):  # pymilvus reports "server unavailable" for a refused token, too
            if isinstance(reason, (MilvusException, grpc.RpcError)) and judge(reason) is RetryDecision.DENIED:
                return self.at.denied(text_of(reason), milvus_code(reason))
        if isinstance(error, ConnectionConfigException | ValueError):
            return BadInput(
                f"target.uri '{self.at.name}' is not a Milvus address: set a path ending in .db, or http://host:19530 or https://host:19530"
            )
        why = START_IT if self.lite else why_silent(self.uri, self.certificates)
        return NoAnswer(f"Milvus at {self.at.name} does not answer: {why}")

    @property
    def proxied(self) -> bool:
        """Whether the environment routes calls through a proxy. gRPC's own rule would use one even for the loopback."""
        return not self.lite and proxy_of(urlsplit(self.uri).hostname or "localhost") is not None

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        with self._lock:
            client, self._client, self._version = self._client, None, ""
            self.closings += 1
        if client is not None:
            client.close()
            if self.lite:
                lite.let_go(self.uri)
