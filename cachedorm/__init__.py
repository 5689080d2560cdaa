"""The second-level cache for SQLAlchemy: cached reads that follow every commit."""

from cachedorm import errors
from cachedorm.cache import Cache
from cachedorm.declare import (
    Cached,
    CachedQuery,
    CachePolicy,
    Region,
    Regions,
    WarmSet,
    cached,
    days,
    hours,
    minutes,
    seconds,
)
from cachedorm.declare.policies.tag import tag
from cachedorm.observe import Observer

__all__ = [
    "Cache",
    "CachePolicy",
    "Cached",
    "CachedQuery",
    "Observer",
    "Region",
    "Regions",
    "WarmSet",
    "cached",
    "days",
    "errors",
    "hours",
    "minutes",
    "seconds",
    "tag",
]
