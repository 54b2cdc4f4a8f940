"""Classifies Milvus' errors and retries calls; no other place retries a call to Milvus.

Codes are those of Milvus' `merr` package. On 2.3.5 code 65535 is a catch-all and is classified by its message. pymilvus
raises at once when a server is down, so only this module waits.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import pymilvus.exceptions as refused
from pymilvus.exceptions import MilvusException

from tasks.adapters.backoff import RetryPolicy
from tasks.domain.errors import BadInput, KitestringError, OutcomeUnknown, Permanent, Transient

T = TypeVar("T")

SLOW_SECONDS = 5.0  # between two tries against a quota
COLLECTION_NOT_FOUND = 100
DATABASE_NOT_FOUND = 800
ALIAS_NOT_FOUND = 1600


class RetryDecision(Enum):
    """Whether and how to retry after an error."""

    AGAIN = "again"
    SLOWLY = "slowly"  # a quota: only deletion or compaction frees space
    DENIED = "denied"
    NEVER = "never"


# A server returns 101, 503 and 901 for half a minute after a crash, while its nodes reconnect.
_AGAIN = {1, 2, 4, 8, 12, 101, 103, 106, 202, 503, 901, 1002, 1807}
_POLITE = {8}
_SLOWLY = {3, 9}
_DENIED = {DATABASE_NOT_FOUND, 1400, 1401}
_CATCH_ALL = 65535
_PASSING = (
    "not ready",
    "not loaded",
    "not fully loaded",
    "offline",
    "nodenotfound",  # the proxy still uses the number that a node had before a crash
    "node not found",
    "node not match",
    "timeout",
    "deadline",
    "unavailable",
    "connection",
    "channel",
    "eof",
    "recovering",
    "unrecoverable error",  # 2.3.5's only text for a load while its nodes reconnect after a crash
)
_QUOTA = ("quota", "rate limit", "ratelimit", "memory", "force deny")
_REFUSED_TOKEN = ("auth check failure", "unauthenticated", "permission", "privilege")
_THERE_ALREADY = re.compile(
    r"\balready exists?\b|\bduplicate collection\b|\bindex duplicates\b|\bat most one distinct index\b", re.IGNORECASE
)
_GRPC_DENIED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_GRPC_NEVER = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE}
_OURS = (refused.ParamError, refused.DataNotMatchException, refused.DataTypeNotMatchException, refused.SchemaNotReadyException)


def quieten() -> None:
    """Silence pymilvus and Milvus Lite: they log a traceback for each failed call, and the raised error reports it in one line.

    gRPC's server belongs to Milvus Lite and logs a traceback for each call of pymilvus that it does not implement.
    """
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def milvus_code(error: Exception) -> Any:
    """Milvus' error code, or gRPC's status if the server did not answer."""
    code = getattr(error, "code", None)
    return code() if callable(code) else code


def text_of(error: Exception) -> str:
    """The first line of the server's message."""
    details = getattr(error, "details", None)
    message = str(getattr(error, "message", None) or (details() if callable(details) else None) or error)
    return (message.strip().splitlines() or [type(error).__name__])[0][:300]


def is_there_already(error: Exception) -> bool:
    """Whether the object exists already, created by another client at the same time."""
    return bool(_THERE_ALREADY.search(text_of(error)))


def is_too_fast(error: Exception) -> bool:
    """Whether the server refuses because of the rate or a quota, so that a lower rate would help."""
    code, text = milvus_code(error), text_of(error).lower()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "larger than" not in text
    return code in _POLITE | _SLOWLY or (code == _CATCH_ALL and any(word in text for word in _QUOTA))


def judge(error: Exception, *, lite: bool = False) -> RetryDecision:
    """The retry decision for an error of pymilvus or gRPC. `lite`: Milvus Lite, whose errors are never temporary."""
    code, text = milvus_code(error), text_of(error).lower()
    if isinstance(code, grpc.StatusCode):
        return _judge_grpc(code, text)
    if "closed channel" in text:  # another thread is reconnecting
        return RetryDecision.AGAIN
    if lite or isinstance(error, _OURS) or text.startswith("unexpected error"):
        return RetryDecision.NEVER
    return _judge_text(text) if code == _CATCH_ALL else _judge_code(error, code, text)


def _judge_code(error: Exception, code: Any, text: str) -> RetryDecision:
    if code in _DENIED or any(word in text for word in _REFUSED_TOKEN):
        return RetryDecision.DENIED
    if code in _SLOWLY:
        return RetryDecision.SLOWLY
    return RetryDecision.AGAIN if code in _AGAIN or getattr(error, "retriable", False) else RetryDecision.NEVER


def _judge_grpc(code: grpc.StatusCode, text: str) -> RetryDecision:
    if code in _GRPC_DENIED:
        return RetryDecision.DENIED
    too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than" in text
    return RetryDecision.NEVER if too_large or code in _GRPC_NEVER else RetryDecision.AGAIN


def _judge_text(text: str) -> RetryDecision:
    if any(word in text for word in _REFUSED_TOKEN):
        return RetryDecision.DENIED
    if "cannot parse" in text or "invalid" in text:
        return RetryDecision.NEVER
    if any(word in text for word in _QUOTA):
        return RetryDecision.SLOWLY
    return RetryDecision.AGAIN if any(word in text for word in _PASSING) else RetryDecision.NEVER


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A target's address for error messages, without password or token."""

    uri: str
    secrets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        if "://" not in self.uri:
            return self.uri
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def without_secrets(self, text: str) -> str:
        for secret in (*self.secrets, urlsplit(self.uri).password if "://" in self.uri else None):
            if secret:
                text = text.replace(secret, "***")
        return text

    def denied(self, text: str, code: object) -> BadInput:
        permitted = "set MILVUS_TOKEN (or target.token_block) to a token with the needed permission"
        remedy = "correct target.database" if code == DATABASE_NOT_FOUND else permitted
        return BadInput(f"Milvus at {self.name} denies access: {self.without_secrets(text)}: {remedy}")


def retried(action: Callable[[], T], doing: str, at: ServerAddress, *, policy: RetryPolicy, lite: bool = False, writes: bool = False) -> T:
    """Run an idempotent action with retries; translates errors into the leaves of the error tree.

    Raises:
        Transient: the time for retries is up and nothing was changed.
        OutcomeUnknown: the time for retries is up and a write may have taken effect.
        BadInput: the server refuses the token or the database.
        Permanent: retrying cannot help.
    """
    backoff = policy.start()
    while True:
        try:
            return action()
        except (MilvusException, grpc.RpcError) as error:
            decision = judge(error, lite=lite)
            final = decision in (RetryDecision.NEVER, RetryDecision.DENIED)
            if final or not backoff.wait(SLOW_SECONDS if decision is RetryDecision.SLOWLY else None):
                # From None: a traceback would print the error's text, which may contain the token.
                raise _leaf(error, decision, doing, at, writes=writes, seconds=policy.seconds) from None


def _leaf(error: Exception, decision: RetryDecision, doing: str, at: ServerAddress, *, writes: bool, seconds: float) -> KitestringError:
    text = at.without_secrets(text_of(error))
    line = f"{doing} at {at.name}: {text} (code {milvus_code(error)})"
    if decision is RetryDecision.DENIED:
        return at.denied(text, milvus_code(error))
    if decision is RetryDecision.NEVER:
        return Permanent(line)
    message = f"{line}, still failing after {seconds:.0f} s"
    nothing_done = decision is RetryDecision.SLOWLY or milvus_code(error) in _POLITE or not writes
    return Transient(message) if nothing_done else OutcomeUnknown(message)
