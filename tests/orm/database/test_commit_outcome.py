"""A COMMIT whose answer never came: its keys stay hidden until the database says how it ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.orm.library import Base, Book
from tests.support.proxy import Fault, FaultProxy

Sessions = sessionmaker[Session]

# Its COMMIT waits for whoever holds the lock.
_SLOW_COMMIT = (
    "create function wait() returns trigger language plpgsql as $$ begin"
    " perform pg_advisory_xact_lock(7); return null; end $$",
    "create constraint trigger wait after update on books deferrable initially deferred"
    " for each row execute function wait()",
)


@pytest.fixture
def database_proxy(engine: Engine) -> Iterator[FaultProxy]:
    """PostgreSQL behind a proxy."""
    with FaultProxy(engine.url.host or "127.0.0.1", engine.url.port or 5432) as running:
        yield running


@pytest.fixture
def proxied(engine: Engine, database_proxy: FaultProxy, cache: Cache) -> Iterator[Sessions]:
    """Served sessions whose connections pass the proxy; one book, called old."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for sql in _SLOW_COMMIT:
            connection.execute(text(sql))
        connection.execute(text("insert into books (title) values ('old')"))
    url = engine.url.set(host="127.0.0.1", port=database_proxy.port)
    mine = create_engine(url, poolclass=NullPool)
    factory = sessionmaker(mine)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(mine)


def title(sessions: Sessions) -> str:
    with sessions() as session:
        return session.get_one(Book, 1).title


def cut_when_waiting(engine: Engine, proxy: FaultProxy) -> None:
    """Cut the writer's connection once its COMMIT waits for the lock: the database says when."""
    with engine.connect() as connection:
        waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
        eventually(lambda: connection.scalar(waiting))
    proxy.impose(Fault.RESET)


def test_lost_during_commit(
    proxied: Sessions, engine: Engine, database_proxy: FaultProxy, cache: Cache, redis_log: RedisLog
) -> None:
    """The server may commit after we gave up: until then nobody caches the old row."""
    assert title(proxied) == "old"
    with engine.connect() as holder:
        holder.execute(text("select pg_advisory_lock(7)"))
        cutter = threading.Thread(target=cut_when_waiting, args=(engine, database_proxy))
        cutter.start()
        with proxied() as session:
            session.get_one(Book, 1).title = "new"
            with pytest.raises(DBAPIError):
                session.commit()
        cutter.join(PATIENCE)
        database_proxy.heal()
        redis_log.clear()
        assert title(proxied) == title(proxied) == "old"
        assert "publish" not in redis_log.names()
        holder.execute(text("select pg_advisory_unlock(7)"))
    thread = cache._store._retry_thread._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert title(proxied) == title(proxied) == "new"
    redis_log.clear()
    title(proxied)
    assert redis_log == ["mget"]


def test_lost_for_good(
    proxied: Sessions, engine: Engine, database_proxy: FaultProxy, cache: Cache
) -> None:
    """A COMMIT that never reached the server leaves the old row, cacheable again."""
    with proxied() as session:
        session.get_one(Book, 1).title = "new"
        session.flush()
        database_proxy.impose(Fault.RESET)
        with pytest.raises(DBAPIError):
            session.commit()
    database_proxy.heal()
    thread = cache._store._retry_thread._thread
    if thread is not None:
        thread.join(PATIENCE)
    assert title(proxied) == title(proxied) == "old"
