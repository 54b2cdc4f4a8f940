"""A cache in Redis or a server that speaks its protocol. The only module that imports redis-py."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.domain.errors import BadInput, Transient
from tasks.domain.job.credentials import without_credentials
from tasks.domain.job.services import CacheSettings

REDIS_CONNECT_SECONDS, REDIS_ANSWER_SECONDS = 1.0, 5.0  # per call; callers also apply their own deadline
_passwords: dict[str, str] = {}  # by URI, from Secret blocks


def provide_password(uri: str, password: str) -> None:
    """Register the password of a Secret block for later connections of this process."""
    _passwords[uri] = password


class RedisCache:
    """A `Cache` that connects at its first call; thread-safe.

    Raises:
        BadInput: the URI is not a Redis URI.
    """

    def __init__(self, settings: CacheSettings) -> None:
        login = {"username": os.environ.get("REDIS_USERNAME"), "password": _passwords.get(settings.uri) or os.environ.get("REDIS_PASSWORD")}
        try:
            self._client = redis.Redis.from_url(
                settings.uri,
                socket_connect_timeout=REDIS_CONNECT_SECONDS,
                socket_timeout=REDIS_ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
                **{name: value for name, value in login.items() if value},
            )
        except ValueError as error:
            raise BadInput(f"cache.uri: '{settings.uri}': {error}") from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with _translated_errors():
            values: Any = self._client.mget(keys)  # bytes, since nothing is decoded
        return list(values)

    def put_many(self, values: Mapping[bytes, bytes], *, seconds: int) -> None:
        with _translated_errors(), self._client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(key, value, ex=seconds)
            pipeline.execute()

    def close(self) -> None:
        self._client.close()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Transient(without_credentials(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")) from error
