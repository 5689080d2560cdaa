"""The second-level cache for SQLAlchemy: cached reads that follow every commit."""

from importlib.metadata import version

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
)
from cachedorm.declare.policies.tag import tag
from cachedorm.observe import Observer

__version__ = version("cachedorm")

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
    "errors",
    "tag",
]
