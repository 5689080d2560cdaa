"""The library's tables on a real PostgreSQL, and a Cache on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.orm.library import REGIONS, Base


@pytest.fixture
def library(engine: Engine) -> Engine:
    """The engine of a database that holds the library's tables, empty."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis."""
    with Cache(redis_url, regions=REGIONS) as made:
        yield made


@pytest.fixture
def sessions(library: Engine, cache: Cache) -> Iterator[sessionmaker[Session]]:
    """A factory whose sessions the cache serves."""
    factory = sessionmaker(library)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(library)


@pytest.fixture
def plain(library: Engine) -> sessionmaker[Session]:
    """A factory of sessions that no cache serves; their writes are followed all the same."""
    return sessionmaker(library)
