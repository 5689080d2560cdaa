"""Observe one Cache within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cachedorm.cache import Cache
from cachedorm.errors import ArgumentError
from cachedorm.observe import Observer


@contextmanager
def watched(cache: Cache, observer: Observer, who: str) -> Iterator[None]:
    """Notify the observer within the block; ArgumentError that names ``who`` if not a Cache."""
    given: object = cache
    if not isinstance(given, Cache):
        raise ArgumentError(f"{who}({given!r}): give a Cache, such as the one of memory_cache(...)")
    with cache.observed(observer):
        yield
