"""A database that is down, and a region that serves through it: sessions, real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cache, Cached, CachePolicy, Region
from cachedorm.store.protocol.entry import describe
from cachedorm.store.runtime.clock import now_ms
from tests.fixtures.patience import patient_cache
from tests.support.proxy import Fault, FaultProxy

SOFT = Region(
    "soft",
    db=3,
    ttl=timedelta(hours=1),
    refresh_ahead=timedelta(minutes=5),
    stale_if_error=timedelta(minutes=10),
    lease=0.1,
)
HARD = Region("hard", db=4, ttl=timedelta(hours=1))


class Base(DeclarativeBase):
    """The declarative base of these tests."""


class Leaflet(Cached, Base):
    __tablename__ = "leaflets"
    __cache__ = CachePolicy(SOFT, key="leaflet:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Ticket(Cached, Base):
    __tablename__ = "tickets"
    __cache__ = CachePolicy(HARD, key="ticket:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


@pytest.fixture
def database(database_url: str) -> Iterator[FaultProxy]:
    """This worker's PostgreSQL behind a proxy."""
    url = make_url(database_url)
    with FaultProxy(url.host or "127.0.0.1", url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def through(database: FaultProxy, database_url: str) -> str:
    """The URL through the proxy."""
    url = make_url(database_url).set(host="127.0.0.1", port=database.port)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    with patient_cache(redis_url, database="leaflets") as made:
        yield made


@pytest.fixture
def sessions(engine: Engine, through: str, cache: Cache) -> Iterator[sessionmaker[Session]]:
    """Served sessions whose connections go through the proxy; one leaflet, one ticket, cached."""
    Base.metadata.create_all(engine)
    proxied = create_engine(through)
    factory = sessionmaker(proxied)
    cache.attach(factory)
    with factory.begin() as session:
        session.add_all([Leaflet(id=1, title="old"), Ticket(id=1, title="old")])
    with factory() as session:
        session.get(Leaflet, 1)
        session.get(Ticket, 1)
    yield factory
    cache.detach(factory)
    cache.detach(proxied)
    proxied.dispose()


def age(redis_url: str, left_ms: int) -> None:
    """Have the time of the cached leaflet be up in so many ms."""
    with redis.Redis.from_url(redis_url, db=3) as client:
        slot = client.get("leaflet:1")
        assert isinstance(slot, bytes)
        ago, up = now_ms() - 3_600_000, now_ms() + left_ms
        aged = slot[:19] + ago.to_bytes(8) + up.to_bytes(8) + slot[35:]
        client.set("leaflet:1", aged, keepttl=True)


def title(sessions: sessionmaker[Session]) -> str:
    with sessions() as session:
        found = session.get(Leaflet, 1)
        assert found is not None
        return found.title


def test_an_entry_of_a_soft_region_outlives_its_time(
    sessions: sessionmaker[Session], redis_url: str
) -> None:
    """An hour, and ten minutes for outages."""
    with redis.Redis.from_url(redis_url, db=3) as client:
        assert 65 * 60_000 < client.pttl("leaflet:1") <= 70 * 60_000
        stored = describe(client.get("leaflet:1"))
    assert stored.outlives
    assert 56 * 60_000 < stored.soft_ms - now_ms() <= 60 * 60_000


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET])
def test_a_session_reads_through_an_outage(
    sessions: sessionmaker[Session],
    database: FaultProxy,
    redis_url: str,
    cache: Cache,
    fault: Fault,
) -> None:
    """The object as it was; without the setting, or uncached, the database's own error."""
    age(redis_url, -1)
    database.impose(fault)

    assert [title(sessions), title(sessions)] == ["old", "old"]
    assert cache.stats().errors["database"] >= 1
    with sessions() as session, pytest.raises(OperationalError):
        session.get(Leaflet, 2)
    cache.invalidate(Ticket, 1)
    with sessions() as session, pytest.raises(OperationalError):
        session.get(Ticket, 1)


def test_an_open_transaction_reads_through_an_outage(
    sessions: sessionmaker[Session], database: FaultProxy, redis_url: str
) -> None:
    """Its connection breaks under the read, whose answer is the cached one; it is over all the
    same, as it would be without a cache."""
    age(redis_url, -1)
    with sessions() as session:
        session.connection()
        database.impose(Fault.RESET)
        found = session.get(Leaflet, 1)
        assert found is not None
        assert found.title == "old"
        session.rollback()
    database.heal()
    age(redis_url, -1)
    assert title(sessions) == "old"


def test_an_outage_does_not_bring_back_what_was_invalidated(
    sessions: sessionmaker[Session], database: FaultProxy, redis_url: str, engine: Engine
) -> None:
    """What a commit has changed is not there to be served."""
    with sessions.begin() as session:
        found = session.get(Leaflet, 1)
        assert found is not None
        found.title = "new"
    database.impose(Fault.REFUSE)

    with sessions() as session, pytest.raises(OperationalError):
        session.get(Leaflet, 1)


def test_a_statement_that_fails_is_no_outage(
    sessions: sessionmaker[Session], redis_url: str, engine: Engine
) -> None:
    """The table is gone: that is the caller's to know."""
    age(redis_url, -1)
    Base.metadata.tables["leaflets"].drop(engine)

    with sessions() as session, pytest.raises(ProgrammingError):
        session.get(Leaflet, 1)


def test_a_due_row_is_refreshed_by_one_session(
    sessions: sessionmaker[Session], redis_url: str, engine: Engine
) -> None:
    """A write that nobody told of is seen when the row is due, by the one that reads it again and
    by everybody after it."""
    with engine.begin() as connection:
        connection.exec_driver_sql("update leaflets set title = 'new'")
    assert title(sessions) == "old"
    age(redis_url, 60_000)

    assert [title(sessions), title(sessions)] == ["new", "new"]


def test_async_sessions_read_through_an_outage_too(
    sessions: sessionmaker[Session],
    database: FaultProxy,
    through: str,
    redis_url: str,
    cache: Cache,
) -> None:
    """And refresh ahead, in their own colour."""

    async def main() -> list[str]:
        engine = create_async_engine(through)
        factory = async_sessionmaker(engine)
        cache.attach(factory)
        titles = []
        try:
            for left_ms, fault in ((60_000, Fault.PASS), (-1, Fault.REFUSE), (-1, Fault.RESET)):
                age(redis_url, left_ms)
                database.impose(fault)
                async with factory() as session:
                    found = await session.get(Leaflet, 1)
                    assert found is not None
                    titles.append(found.title)
        finally:
            database.heal()
            cache.detach(factory)
            await cache.aclose()
            await engine.dispose()
        return titles

    assert asyncio.run(main()) == ["old", "old", "old"]
