"""Watching one Cache for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cachedorm.cache import Cache
from cachedorm.errors import ArgumentError
from cachedorm.observe import Observer


@contextmanager
def watched(cache: Cache, observer: Observer, who: str) -> Iterator[None]:
    """Tell the observer what the cache does; ArgumentError, in the name of who asks, for others."""
    given: object = cache
    if not isinstance(given, Cache):
        raise ArgumentError(
            f"{who}({given!r}): give the Cache, such as the one that memory_cache(...) gives"
        )
    with cache.observed(observer):
        yield
