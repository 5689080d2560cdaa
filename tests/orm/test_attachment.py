"""Attaching and detaching: what is followed, what is left as it was, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text, update
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from cachedorm import Cache
from cachedorm.errors import ArgumentError, ConfigurationError
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import REGIONS, Author, Book, Place

books: Any = Book.__table__

_WRAPPED = (
    "do_commit",
    "do_rollback",
    "do_prepare_twophase",
    "do_commit_twophase",
    "do_rollback_twophase",
)
_EVENTS = (
    "begin",
    "before_execute",
    "after_execute",
    "before_cursor_execute",
    "after_cursor_execute",
    "rollback_savepoint",
    "commit",
)


def is_followed(engine: Engine) -> bool:
    """Whether anything listens to this very engine; geoalchemy2 listens to all of them."""
    return any(name in engine.dialect.__dict__ for name in _WRAPPED) or any(
        len(getattr(engine.dispatch, name).listeners) for name in _EVENTS
    )


def rename(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(books).where(books.c.id == 1).values(title="new"))


def tells(engine: Engine, redis_log: RedisLog) -> bool:
    """Whether a write on this engine is told to Redis."""
    redis_log.clear()
    rename(engine)
    return told(redis_log)


def told(redis_log: RedisLog) -> bool:
    """Whether one commit was told (the first one also brings the scripts)."""
    return [name for name in redis_log.names() if name != "eval"] == ["intend", "settle"]


def test_sessionmaker(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """Its new sessions are of another class, its engine is followed; detach gives both back."""
    factory = sessionmaker(library)
    before = factory.class_
    open_session = factory()
    cache.attach(factory)
    assert issubclass(factory.class_, before)
    assert type(factory()).get is not Session.get
    assert type(open_session) is before
    assert tells(library, redis_log)
    cache.detach(factory)
    assert factory.class_ is before
    cache.detach(library)
    assert not is_followed(library)
    assert not tells(library, redis_log)


def test_scoped_session(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A scoped_session is attached by its factory."""
    factory = sessionmaker(library)
    before = factory.class_
    scoped = scoped_session(factory)
    cache.attach(scoped)
    scoped.add(Author(id=1, name="Kim"))
    redis_log.clear()
    scoped.commit()
    assert told(redis_log)
    scoped.remove()
    cache.detach(scoped)
    assert factory.class_ is before


async def test_async_sessionmaker(
    library: Engine, cache: Cache, async_database_url: str, redis_log: RedisLog
) -> None:
    """Its shared class stays as it is; its own sessions are served."""
    engine = create_async_engine(async_database_url)
    factory = async_sessionmaker(engine)
    cache.attach(factory)
    cache.attach(factory)
    assert AsyncSession.sync_session_class is Session
    async with factory() as session:
        session.add(Author(id=1, name="Kim"))
        await session.flush()
        redis_log.clear()
        await session.commit()
        assert told(redis_log)
        assert issubclass(type(session.sync_session), Session)
        assert type(session.sync_session) is not Session
    cache.detach(factory)
    assert type(factory().sync_session) is Session
    cache.detach(engine)
    assert not is_followed(engine.sync_engine)
    await cache.aclose()
    await engine.dispose()


async def test_async_scoped_session(library: Engine, cache: Cache, async_database_url: str) -> None:
    """An async_scoped_session is attached by its factory."""
    engine = create_async_engine(async_database_url)
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    cache.attach(scoped)
    assert type(scoped().sync_session) is not Session
    await scoped.remove()
    cache.detach(scoped)
    cache.detach(engine)
    await engine.dispose()


@pytest.mark.parametrize("options", [{}, {"logging_token": "x"}])
def test_engine(
    library: Engine, cache: Cache, redis_log: RedisLog, options: dict[str, Any]
) -> None:
    """An engine's writes are followed, whichever of its option engines was attached, once."""
    engine = library.execution_options(**options) if options else library
    cache.attach(engine)
    cache.attach(library)
    assert tells(library, redis_log)
    assert tells(engine, redis_log)
    with sessionmaker(library)() as session:
        assert not hasattr(session, "_cachedorm_reader")
    cache.detach(library)
    assert not is_followed(library)


async def test_async_engine(
    library: Engine, cache: Cache, async_database_url: str, redis_log: RedisLog
) -> None:
    """So are an AsyncEngine's."""
    engine = create_async_engine(async_database_url)
    cache.attach(engine)
    redis_log.clear()
    async with engine.begin() as connection:
        await connection.execute(update(books).where(books.c.id == 1).values(title="new"))
    assert told(redis_log)
    cache.detach(engine)
    await cache.aclose()
    await engine.dispose()


def test_twice(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """Attaching again to the same Cache does nothing, so one detach is enough."""
    factory = sessionmaker(library)
    before = factory.class_
    cache.attach(factory)
    made = factory.class_
    cache.attach(factory)
    assert factory.class_ is made
    assert tells(library, redis_log)
    cache.detach(factory)
    assert factory.class_ is before
    cache.detach(factory)
    cache.detach(library)


def test_another_cache(library: Engine, cache: Cache) -> None:
    """A factory or engine belongs to one Cache, until it is detached."""
    factory = sessionmaker(library)
    cache.attach(factory)
    with Cache(regions=REGIONS) as other:
        with pytest.raises(ConfigurationError, match="attached to another Cache; detach it"):
            other.attach(factory)
        with pytest.raises(ConfigurationError, match="attached to another Cache; detach it"):
            other.attach(library)
        cache.detach(factory)
        cache.detach(library)
        other.attach(factory)
        other.detach(factory)
        other.detach(library)


def test_another_database(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """One Cache serves one database."""
    cache.attach(library)
    other = create_engine(library.url.set(database="elsewhere"))
    with pytest.raises(ConfigurationError, match="give the other database a Cache of its own"):
        cache.attach(other)
    assert not is_followed(other)
    cache.detach(library)


def test_anything_else(cache: Cache) -> None:
    """What cannot be attached is named, with what can."""
    thing: Any = object()
    with pytest.raises(ArgumentError, match="give a sessionmaker"):
        cache.attach(thing)


@pytest.mark.parametrize("how", ["binds", "get_bind", "bind=connection"])
def test_engine_that_a_session_brings(
    library: Engine, cache: Cache, redis_log: RedisLog, database_url: str, how: str
) -> None:
    """An engine that only a session of ours knows is followed from its first transaction."""
    other = create_engine(database_url)

    class Routing(Session):
        def get_bind(self, *args: Any, **options: Any) -> Any:
            return other

    factory: sessionmaker[Session] = sessionmaker(
        library, class_=Routing if how == "get_bind" else Session
    )
    cache.attach(factory)
    with other.connect() as connection:
        brought: dict[str, dict[str, Any]] = {
            "binds": {"binds": {Author: other}},
            "get_bind": {},
            "bind=connection": {"bind": connection},
        }
        options = brought[how]
        with factory(**options) as session:
            session.add(Author(id=1, name="Kim"))
            session.flush()
            redis_log.clear()
            session.commit()
        connection.commit()
    assert told(redis_log)
    assert tells(other, redis_log)
    cache.detach(factory)
    cache.detach(library)
    cache.detach(other)
    other.dispose()


def test_replica(library: Engine, cache: Cache, database_url: str, redis_log: RedisLog) -> None:
    """What is read on an engine with publish=False is never stored."""
    cache.attach(library)
    replica = create_engine(database_url)
    factory = sessionmaker(replica)
    cache.attach(factory, publish=False)
    rename(library)
    redis_log.clear()
    with factory() as session:
        assert session.get(Book, 1) is None
    assert "publish" not in redis_log.names()
    for target in (factory, replica, library):
        cache.detach(target)
    replica.dispose()


def test_open_transaction(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A connection that was open when its engine was attached is followed from then on.

    What its transaction wrote before was not seen: its commit ends everything, in every database
    that some model is cached in, of whatever test.
    """
    with library.connect() as connection:
        connection.execute(text("select 1"))
        cache.attach(library)
        connection.execute(update(books).where(books.c.id == 1).values(title="new"))
        redis_log.clear()
        connection.commit()
    told = [name for name in redis_log.names() if name != "eval"]
    databases = len(told) // 2
    assert databases >= 2
    assert told == ["intend"] * databases + ["settle"] * databases
    cache.detach(library)


def test_in_process(library: Engine) -> None:
    """A Cache without a server keeps the same promises within its process."""
    factory = sessionmaker(library)
    with Cache(regions=REGIONS) as cache:
        cache.attach(factory)
        with factory.begin() as session:
            session.add(Place(code="a", title="old"))
        for title in ("old", "new"):
            with factory() as session:
                place = session.execute(Place.by(code="a")).scalar_one()
                assert place.title == title
                place.title = "new"
                session.commit()
        cache.detach(factory)
        cache.detach(library)


def test_patched_dialect(library: Engine, cache: Cache) -> None:
    """What somebody else put on the dialect is there again after detach."""
    dialect: Any = library.dialect
    original = dialect.do_commit
    commits: list[Any] = []

    def do_commit(connection: Any) -> None:
        commits.append(connection)
        original(connection)

    dialect.do_commit = do_commit
    cache.attach(library)
    rename(library)
    assert len(commits) == 1
    cache.detach(library)
    assert dialect.do_commit is do_commit


def test_another_cache_later(library: Engine, redis_url: str) -> None:
    """An engine that one Cache followed is followed by the next, pooled connections and all."""
    factory = sessionmaker(library)
    for _ in range(2):
        with patient_cache(redis_url, regions=REGIONS) as made:
            made.attach(factory)
            for _ in range(2):
                with factory() as session:
                    assert session.get(Book, 1) is None
            assert made.stats().hits["shelf"] > 0
            made.detach(factory)
            made.detach(library)
