"""A response cache for any ASGI application, whose responses follow the rows they were made of."""

from cachedorm.responses.middleware import ResponseCache
from cachedorm.responses.rule import CacheRule

__all__ = ["CacheRule", "ResponseCache"]
