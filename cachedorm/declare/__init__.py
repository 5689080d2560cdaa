"""What a model says about its cache: regions, policies and the ``Cached`` mixin."""

from cachedorm.declare.policies.model import Cached, KeyRead
from cachedorm.declare.policies.policy import CachePolicy
from cachedorm.declare.policies.region import Region, Regions
from cachedorm.declare.policies.tag import tag
from cachedorm.declare.queries.query import CachedQuery, cached
from cachedorm.declare.queries.warmset import WarmSet

__all__ = [
    "CachePolicy",
    "Cached",
    "CachedQuery",
    "KeyRead",
    "Region",
    "Regions",
    "WarmSet",
    "cached",
    "tag",
]
