"""Applications for `cachedorm`, each with something of its own."""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker

import models
from cachedorm import Cache, Region, Regions
from tests.fixtures.patience import patient_cache


def in_this_process() -> Cache:
    """Without a Redis."""
    cache = Cache(regions=models.REGIONS)
    cache.attach(sessionmaker(create_engine(os.environ["WARM_DATABASE"])))
    return cache


def engine_for_coroutines() -> Cache:
    """An engine alone is attached, and it is an async one."""
    cache = patient_cache(os.environ["WARM_REDIS"], regions=models.REGIONS)
    cache.attach(create_async_engine(os.environ["WARM_DATABASE"]))
    return cache


def unattached() -> Cache:
    """Nothing is attached."""
    return patient_cache(os.environ["WARM_REDIS"], regions=models.REGIONS)


def kept() -> Cache:
    """One region must not be evicted, and one number is beyond what the server has."""
    regions = Regions(
        Region("kept", db=12, ttl=60, evictable=False),
        Region("beyond", db=99, ttl=60, intents=False),
        taken={13: "a queue"},
    )
    return patient_cache(os.environ["WARM_REDIS"], regions=regions)


def by_snapshots() -> Cache:
    """Its transactions read snapshots."""
    cache = patient_cache(os.environ["WARM_REDIS"], regions=models.REGIONS)
    engine = create_engine(os.environ["WARM_DATABASE"], isolation_level="REPEATABLE READ")
    cache.attach(sessionmaker(engine))
    return cache


def failing() -> Cache:
    """Cannot be made."""
    raise RuntimeError("no such setting: postgresql://shop:s3cret@db/shop\nand more")


def leaving() -> Cache:
    """Ends the process, or would like to."""
    raise SystemExit("wrong environment")


def talkative() -> Cache:
    """Says what it does."""
    print("opening the cache")
    return Cache(regions=Regions(Region("quiet", db=1, ttl=60)))


class _Lazy:
    @property
    def cache(self) -> Cache:
        """Not to be had."""
        raise RuntimeError("not yet")


lazy = _Lazy()


async def coroutine() -> Cache:
    """Is no plain function."""
    return Cache()


def in_korean() -> Cache:
    """A region with letters that not every output can hold."""
    return Cache(regions=Regions(Region("종이", db=1, ttl=60)))
