"""A cache for one test: attached to the test's factories, detached when it ends."""

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
    """A Cache in memory, attached to these factories and engines within the block.

    It needs no server, and guarantees what a Cache on Redis guarantees to a single process.
    """
    with Cache(regions=regions, observers=observers) as cache, attached(cache, *targets):
        yield cache


@contextmanager
def attached(cache: Cache, *targets: Target) -> Iterator[Cache]:
    """Attach the cache to these factories and engines within the block.

    Afterwards they are detached, and so is every engine that the cache attached meanwhile: the
    next test can attach another cache. Close the block's sessions before it ends.
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
