"""A task that is cancelled in the middle of its commit, at each of the three moments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import redis
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from cachedorm import Cache
from tests.fixtures.faults import RedisProxy
from tests.support.orm.library import REGIONS, Base, Book
from tests.support.proxy import Fault, FaultProxy
from tests.support.races.staging import Stage

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def stocked(engine: Engine) -> Engine:
    """A database with one book, called old."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Book(title="old"))
        session.commit()
    return engine


@pytest.fixture
def database_proxy(stocked: Engine) -> Iterator[FaultProxy]:
    """PostgreSQL behind a proxy."""
    with FaultProxy(stocked.url.host or "127.0.0.1", stocked.url.port or 5432) as running:
        yield running


@pytest_asyncio.fixture
async def proxied(stocked: Engine, database_proxy: FaultProxy) -> AsyncIterator[AsyncEngine]:
    """An async engine whose connections pass the proxy."""
    url = stocked.url.set(host="127.0.0.1", port=database_proxy.port)
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def cache(proxy: RedisProxy, stocked: Engine) -> AsyncIterator[Cache]:
    """A Cache behind a proxy, patient enough to be held by it."""
    database = str(stocked.url)
    cache = Cache(
        proxy.url,
        regions=REGIONS,
        connect_timeout=60,
        operation_timeout=60,
        commit_timeout=60,
        database=database,
    )
    yield cache
    await cache.aclose()


@pytest_asyncio.fixture
async def stage(proxied: AsyncEngine) -> Stage:
    """The stage of the engine's commits."""
    return Stage(proxied)


@pytest_asyncio.fixture
async def sessions(cache: Cache, stage: Stage, proxied: AsyncEngine) -> AsyncIterator[Sessions]:
    """Served sessions; the book is cached."""
    factory = async_sessionmaker(proxied)
    cache.attach(factory)
    assert await title(factory) == "old"
    yield factory
    cache.detach(factory)
    cache.detach(proxied)


async def title(sessions: Sessions) -> str:
    async with sessions() as session:
        return (await session.get_one(Book, 1)).title


async def renaming(sessions: Sessions) -> None:
    async with sessions() as session:
        (await session.get_one(Book, 1)).title = "new"
        await session.commit()
        await asyncio.sleep(0)  # where a cancellation that was held back arrives


def intents(redis_url: str) -> int:
    """How many keys a writer hides in the books' database."""
    with redis.Redis.from_url(redis_url, db=1) as client:
        return len(list(client.scan_iter("~i:*")))


async def test_during_intend(sessions: Sessions, proxy: RedisProxy, redis_url: str) -> None:
    """Cancelled before COMMIT: nothing is written, nothing stays hidden."""
    async with sessions() as session:
        (await session.get_one(Book, 1)).title = "new"
        await session.flush()
        proxy.impose(Fault.HALF_OPEN)
        task = asyncio.create_task(session.commit())
        await asyncio.to_thread(proxy.wait_until_held)
        task.cancel()
        proxy.heal()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert intents(redis_url) == 0
    assert await title(sessions) == "old"


async def test_during_commit(
    sessions: Sessions,
    stage: Stage,
    database_proxy: FaultProxy,
    cache: Cache,
    redis_url: str,
    stocked: Engine,
) -> None:
    """Cancelled while the server commits: hidden until it is known how that ended."""
    stage.before = lambda: database_proxy.impose(Fault.HALF_OPEN)
    task = asyncio.create_task(renaming(sessions))
    await asyncio.to_thread(database_proxy.wait_until_held)
    task.cancel()
    await asyncio.sleep(0)
    database_proxy.heal()
    with pytest.raises(asyncio.CancelledError):
        await task
    thread = cache._store._retry_thread._thread
    if thread is not None:
        await asyncio.to_thread(thread.join, 20)
    assert intents(redis_url) == 0
    with Session(stocked) as session:
        left = session.get_one(Book, 1).title
    assert await title(sessions) == left


async def test_during_settle(
    sessions: Sessions, stage: Stage, proxy: RedisProxy, redis_url: str
) -> None:
    """Cancelled after COMMIT: it is told all the same, and then the cancellation arrives."""
    stage.after = lambda: proxy.impose(Fault.HALF_OPEN)
    task = asyncio.create_task(renaming(sessions))
    await asyncio.to_thread(proxy.wait_until_held)
    task.cancel()
    proxy.heal()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert intents(redis_url) == 0
    assert await title(sessions) == "new"


async def test_commit_waits_for_settle(
    sessions: Sessions, stage: Stage, proxy: RedisProxy, redis_url: str
) -> None:
    """``await commit()`` returns when Redis has been told, not before."""
    stage.after = lambda: proxy.impose(Fault.HALF_OPEN)
    task = asyncio.create_task(renaming(sessions))
    await asyncio.to_thread(proxy.wait_until_held)
    assert not task.done()
    proxy.heal()
    await task
    assert intents(redis_url) == 0
    assert await title(sessions) == "new"
