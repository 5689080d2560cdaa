"""A cache for one test: attached to what the test names, and gone when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy.engine import Engine

from cachedorm.cache import Cache
from cachedorm.declare.policies.region import Regions
from cachedorm.observe import Observer
from cachedorm.orm.database.factories import Target


@contextmanager
def memory_cache(
    *targets: Target, regions: Regions | None = None, observers: Iterable[Observer] = ()
) -> Iterator[Cache]:
    """A Cache in this process, attached to these factories and engines within the block.

    It keeps every promise that a Cache on Redis keeps to one process, and needs no server.
    """
    with Cache(regions=regions, observers=observers) as cache, attached(cache, *targets):
        yield cache


@contextmanager
def attached(cache: Cache, *targets: Target) -> Iterator[Cache]:
    """Within the block, the sessions of these factories are served by the cache.

    Afterwards they are attached to nothing, nor is any engine that the cache has met meanwhile, so
    that the next test begins with another cache. Close the block's sessions before.
    """
    known = set(cache.engines)
    with ExitStack() as undo:
        undo.callback(_leave, cache, known)
        for target in targets:
            cache.attach(target)
            undo.callback(cache.detach, target)
        yield cache


def _leave(cache: Cache, known: set[Engine]) -> None:
    for engine in cache.engines:
        if engine not in known:
            cache.detach(engine)
