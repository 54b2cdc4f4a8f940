"""A gRPC proxy in front of a Milvus server that refuses or delays calls as it is told: real connections, real bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
from pymilvus.grpc_gen import common_pb2, milvus_pb2

WIDE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# pymilvus asks every ten seconds whether the server is alive; gRPC's servers end such connections by default, Milvus does not.
PATIENT = [
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
CALL_SECONDS = 120
RATE_LIMIT, QUOTA = 8, 9
OLD_CODES = {RATE_LIMIT: common_pb2.RateLimit, QUOTA: common_pb2.MemoryQuotaExhausted}  # what 2.3 sends beside the new ones

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to a call instead of, or around, being passed on."""

    code: int = 0  # Milvus' own: the answer says so, and nothing was done
    denied: Callable[[Metadata], str] | None = None  # gRPC's UNAUTHENTICATED with these words, and nothing was done
    before: float = 0.0  # seconds that the call waits before it is passed on
    after: float = 0.0  # seconds that its answer waits: it was done


Script = Callable[[str], Trouble | None]


@dataclass(slots=True)
class MilvusProxy:
    """Where it listens; what it does to a call is asked of `script` by the call's name, such as Upsert."""

    upstream: str = ""  # left empty, nothing is passed on
    uri: str = ""
    script: Script = lambda _: None
    seen: list[str] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)  # calls that met trouble, by name


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method there is, its messages as bytes."""

    def __init__(self, proxy: MilvusProxy, channel: Any) -> None:
        self._proxy, self._channel = proxy, channel
        self._lock = threading.Lock()

    def service(self, call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(partial(self._serve, call.method, call.invocation_metadata))

    def _serve(self, method: str, metadata: Metadata, request: bytes, context: Any) -> bytes:
        trouble = self._look(method.rpartition("/")[2])
        if trouble is None:
            return self._forward(method, metadata, request, context)
        if trouble.denied is not None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, trouble.denied(metadata))
        if trouble.code:
            return refusal(trouble.code)
        time.sleep(trouble.before)
        answer = self._forward(method, metadata, request, context)
        time.sleep(trouble.after)
        return answer

    def _look(self, name: str) -> Trouble | None:
        with self._lock:
            self._proxy.seen.append(name)
            trouble = self._proxy.script(name)
            if trouble is not None:
                self._proxy.met[name] = self._proxy.met.get(name, 0) + 1
        return trouble

    def _forward(self, method: str, metadata: Metadata, request: bytes, context: Any) -> bytes:
        sent = [(key, value) for key, value in metadata if not key.startswith(("grpc-", ":")) and key != "user-agent"]
        try:
            answer: bytes = self._channel.unary_unary(method)(request, metadata=sent, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return answer


def refusal(code: int) -> bytes:
    """The answer to an Upsert that was not done."""
    said = {RATE_LIMIT: "request is rejected by grpc RateLimiter middleware, please retry later", QUOTA: "quota exceeded"}[code]
    status = common_pb2.Status(code=code, error_code=OLD_CODES[code], reason=said)
    return bytes(milvus_pb2.MutationResult(status=status).SerializeToString())


@contextmanager
def milvus_proxy(upstream: str = "") -> Iterator[MilvusProxy]:
    """The proxy at work on a free port of the loopback.

    Args:
        upstream: the server's `http://host:port`.
    """
    proxy = MilvusProxy(upstream=upstream)
    with ThreadPoolExecutor(32) as threads, grpc.insecure_channel(upstream.removeprefix("http://") or "127.0.0.1:9", WIDE) as channel:
        server = grpc.server(threads, handlers=(_Handler(proxy, channel),), options=[*WIDE, *PATIENT])
        proxy.uri = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield proxy
        finally:
            server.stop(grace=None).wait()
