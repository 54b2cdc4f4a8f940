"""Opens the cache that a job configures."""

from __future__ import annotations

import importlib.util

from tasks.domain.errors import BadInput
from tasks.domain.job.services import CacheSettings
from tasks.domain.ports import Cache


def open_cache(settings: CacheSettings) -> Cache:
    """Open the cache without connecting yet.

    Raises:
        BadInput: redis-py is not installed, or the URI is not a Redis URI.
    """
    if importlib.util.find_spec("redis") is None:
        raise BadInput("cache: the Redis client is not installed here: pip install -e '.[redis]', on every host that encodes")
    from tasks.adapters.cache.redis_cache import RedisCache  # noqa: PLC0415 - redis-py is optional

    return RedisCache(settings)
