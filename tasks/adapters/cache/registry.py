"""The cache that a job asks for."""

from __future__ import annotations

import importlib.util

from tasks.domain.errors import BadInput
from tasks.domain.job.services import CacheSettings
from tasks.domain.ports import Cache


def open_cache(settings: CacheSettings) -> Cache:
    """It is asked nothing yet.

    Raises:
        BadInput: redis-py is not installed, or the URI is no Redis server's.
    """
    if importlib.util.find_spec("redis") is None:
        raise BadInput("cache: the Redis client is not installed here: pip install -e '.[redis]', on every host that encodes")
    from tasks.adapters.cache.redis_cache import RedisCache  # noqa: PLC0415 - for those who have a cache

    return RedisCache(settings)
