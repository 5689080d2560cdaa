"""The shop on a real PostgreSQL, its Cache on a real Redis, and the application over both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from tests.fixtures.logs import SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.contrib.shelf import REGIONS, Base, Item, Owner
from tests.support.contrib.site import Site


@pytest.fixture
def stock(engine: Engine) -> Engine:
    """The engine of a database with an owner and two items of theirs."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Owner(id=1, name="Kim"))
        session.flush()
        session.add_all([Item(id=1, title="one", owner_id=1, secret="s"), Item(id=2, title="two")])
        session.commit()
    return engine


@pytest_asyncio.fixture
async def site(
    stock: Engine, async_database_url: str, redis_url: str, sql_log: SqlLog
) -> AsyncIterator[Site]:
    """The application, with nothing cached yet."""
    engine = create_async_engine(async_database_url)
    sql_log.follow(engine)
    cache = patient_cache(redis_url, regions=REGIONS)
    sessions, sync_sessions = async_sessionmaker(engine), sessionmaker(stock)
    cache.attach(sync_sessions)
    cache.attach(sessions)
    made = Site(cache, sessions, sync_sessions, stock, redis_url)
    yield made
    made.detach(cache)
    await cache.aclose()
    await engine.dispose()
