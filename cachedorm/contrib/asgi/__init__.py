"""A response cache for any ASGI application, whose responses follow the rows they were made of."""

from cachedorm.contrib.asgi.middleware import ResponseCache
from cachedorm.contrib.asgi.rule import CacheRule

__all__ = ["CacheRule", "ResponseCache"]
