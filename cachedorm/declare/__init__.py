"""What a model says about its cache: regions, policies and the ``Cached`` mixin."""

from cachedorm.declare.model import Cached, KeyRead
from cachedorm.declare.nearby import Nearby
from cachedorm.declare.policy import CachePolicy
from cachedorm.declare.query import CachedQuery
from cachedorm.declare.region import Region, Regions, days, hours, minutes, seconds
from cachedorm.declare.spot import cached
from cachedorm.declare.tag import tag
from cachedorm.declare.warmset import WarmSet

__all__ = [
    "CachePolicy",
    "Cached",
    "CachedQuery",
    "KeyRead",
    "Nearby",
    "Region",
    "Regions",
    "WarmSet",
    "cached",
    "days",
    "hours",
    "minutes",
    "seconds",
    "tag",
]
