"""The library's tables on a real PostgreSQL, and a Cache on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.entries import entries, shop  # noqa: F401
from tests.support.orm.library import REGIONS, Author, Base, Book, Mood, Place


@pytest.fixture
def library(engine: Engine) -> Engine:
    """The engine of a database that holds the library's tables, empty."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis."""
    with patient_cache(redis_url, regions=REGIONS) as made:
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


@pytest.fixture
def stocked(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """The served factory, with an author, two books of theirs and a place; nothing is cached."""
    with sessions() as session:
        session.add(Author(id=1, name="Kim"))
        session.flush()
        session.add(
            Book(id=1, title="one", author_id=1, secret="s", notes={"a": [1]}, mood=Mood.BAD)
        )
        session.add(Book(id=2, title="two", author_id=None))
        session.add(Place(id=1, code="p", title="here"))
        session.commit()
    return sessions


@pytest_asyncio.fixture
async def async_sessions(
    stocked: sessionmaker[Session], cache: Cache, async_database_url: str, sql_log: SqlLog
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """An async factory that the same cache serves, over the same rows; in the SQL log too."""
    engine = create_async_engine(async_database_url)
    sql_log.follow(engine)
    factory = async_sessionmaker(engine)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(engine)
    await cache.aclose()
    await engine.dispose()
