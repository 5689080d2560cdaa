"""Refreshed queries: after the commit their entries are there again, by an ordinary leased fill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    ForeignKey,
    String,
    TypeDecorator,
    bindparam,
    create_engine,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Observer
from cachedorm.orm.tracking.refresh_requests import REFRESHES_MAX
from examples.servers import PrivateRedis
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import REGIONS, SHELF


class Base(DeclarativeBase):
    __cache_regions__ = REGIONS


class Author(Cached, Base):
    __tablename__ = "refreshed_authors"
    __cache__ = CachePolicy(SHELF, key="refreshed:author:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Book(Cached, Base):
    __tablename__ = "refreshed_books"
    __cache__ = CachePolicy(SHELF, key="refreshed:book:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int | None] = mapped_column(ForeignKey(Author.id, ondelete="CASCADE"))


class Words(TypeDecorator[list[str]]):
    """A list of words, kept as one text."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else " ".join(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.split()


class Label(Cached, Base):
    __tablename__ = "refreshed_labels"
    __cache__ = CachePolicy(SHELF, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[list[str]] = mapped_column(Words)


AUTHORS: Any = Author.__table__
shelf_of = CachedQuery(
    SHELF,
    "refreshed:{author_id}",
    select(Author, func.count(Book.id).label("books"))
    .outerjoin(Book, Book.author_id == Author.id)
    .where(Author.id == bindparam("author_id"))
    .group_by(Author.id),
    on_write="refresh",
)
names = CachedQuery(
    SHELF, "refreshed:names", select(Author.name).order_by(Author.name), on_write="refresh"
)

labelled = CachedQuery(
    SHELF,
    "refreshed:labels:{words}",
    select(Label.id).where(Label.words == bindparam("words")),
    on_write="refresh",
)


class Errors(Observer):
    """Keeps what went wrong."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, BaseException]] = []
        self.bypassed: list[str] = []

    def error(self, what: str, error: BaseException) -> None:
        self.seen.append((what, error))

    def bypass(self, region: str, reason: str) -> None:
        self.bypassed.append(reason)


@pytest.fixture
def library(engine: Engine) -> Engine:
    """The engine of a database with these tables: their queries are no other test's business."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def errors() -> Errors:
    """What the cache reports."""
    return Errors()


@pytest.fixture
def cache(redis_url: str, errors: Errors) -> Iterator[Cache]:
    """A Cache that reports."""
    with patient_cache(redis_url, regions=REGIONS, observers=[errors]) as made:
        yield made


def write(sessions: sessionmaker[Session], *rows: object) -> None:
    """Commit new rows."""
    with sessions() as session:
        session.add_all(rows)
        session.commit()


def read(sessions: sessionmaker[Session], author_id: int = 1) -> tuple[Any, list[str]]:
    """Name and number of books, and every author's name."""
    with sessions() as session:
        row = session.execute(shelf_of(author_id=author_id)).one_or_none()
        return row and (row.Author.name, row.books), list(session.scalars(names()))


def test_the_next_reader_finds_it(
    sessions: sessionmaker[Session], sql_log: SqlLog, errors: Errors
) -> None:
    """Whatever was written: both tables, Core, bulk, deletes, moves (old and new owner)."""
    write(sessions, Author(id=1, name="Kim"), Author(id=2, name="Lee"))

    def expect(author_id: int, state: Any, everybody: list[str]) -> None:
        sql_log.clear()
        assert read(sessions, author_id) == (state, everybody)
        assert sql_log == []

    expect(1, ("Kim", 0), ["Kim", "Lee"])
    write(sessions, Book(id=1, title="a", author_id=1))
    expect(1, ("Kim", 1), ["Kim", "Lee"])
    with sessions() as session:
        session.get_one(Book, 1).author_id = 2
        session.commit()
    expect(1, ("Kim", 0), ["Kim", "Lee"])
    expect(2, ("Lee", 1), ["Kim", "Lee"])
    with sessions() as session:
        session.execute(update(AUTHORS).where(Author.id == 1).values(name="Choi"))
        session.commit()
    expect(1, ("Choi", 0), ["Choi", "Lee"])
    with sessions() as session:
        session.delete(session.get_one(Author, 2))
        session.commit()
    expect(2, None, ["Choi"])
    assert errors.seen == []


def test_values_that_cannot_be_remembered(sessions: sessionmaker[Session]) -> None:
    """A decorated list fails no flush, is found by what is stored of it, and is followed."""
    words = [["a", "b"], ["a b"], ["c"]]

    def found() -> list[list[int]]:
        with sessions() as session:
            return [list(session.scalars(labelled(words=each))) for each in words]

    write(sessions, Label(id=1, words=["a", "b"]))
    assert found() == found() == [[1], [1], []]
    with sessions() as session:
        session.get_one(Label, 1).words = ["c"]
        session.commit()
    assert found() == [[], [], [1]]


def test_a_refresh_is_a_leased_fill_after_settle(
    sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """Intent, COMMIT, settle; then read, lease, publish, like any reader."""
    write(sessions, Author(id=1, name="Kim"))
    read(sessions)
    redis_log.clear()
    write(sessions, Book(id=1, title="a", author_id=1))
    assert redis_log == ["intend", "settle", "mget", "acquire", "publish"]


def test_a_rollback_refreshes_nothing(sessions: sessionmaker[Session], redis_log: RedisLog) -> None:
    """There is nothing new to read."""
    with sessions() as session:
        session.add(Author(id=1, name="Kim"))
        session.flush()
        redis_log.clear()
        session.rollback()
    assert redis_log == []


def test_unknown_rows_are_left_to_their_readers(
    sessions: sessionmaker[Session], sql_log: SqlLog
) -> None:
    """SQL text names no rows: the query without parameters is filled, the others are read anew."""
    write(sessions, Author(id=1, name="Kim"))
    with sessions() as session:
        session.execute(text("update refreshed_authors set name = 'Choi'"))
        session.commit()
    sql_log.clear()
    assert read(sessions) == (("Choi", 0), ["Choi"])
    assert len(sql_log) == 1


def test_many_at_once_are_left_to_their_readers(
    sessions: sessionmaker[Session], redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """A commit waits for a few refreshes, not for hundreds."""
    write(sessions, *(Author(id=n, name=f"a{n}") for n in range(REFRESHES_MAX + 5)))
    assert "publish" not in redis_log.names()
    sql_log.clear()
    assert read(sessions, 3)[0] == ("a3", 0)
    assert sql_log != []


def test_a_failing_refresh_leaves_the_commit_alone(
    sessions: sessionmaker[Session], library: Engine, errors: Errors
) -> None:
    """It is logged; the entry is filled by its next reader."""
    write(sessions, Author(id=1, name="Kim"))
    refusing = [True]

    def refuse(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if refusing and "count(refreshed_books.id)" in statement:
            raise RuntimeError("refused")

    event.listen(library, "before_cursor_execute", refuse)
    with sessions() as session:
        session.get_one(Author, 1).name = "Choi"
        session.commit()
    assert [(what, str(error)) for what, error in errors.seen] == [("refresh", "refused")]
    refusing.clear()
    assert read(sessions) == (("Choi", 0), ["Choi"])
    event.remove(library, "before_cursor_execute", refuse)


def test_a_full_pool_is_not_waited_for(cache: Cache, library: Engine, errors: Errors) -> None:
    """The committing connection is still taken, so waiting could be for ever."""
    engine = create_engine(library.url, pool_size=1, max_overflow=0, pool_timeout=30)
    factory = sessionmaker(engine)
    cache.attach(factory)
    write(factory, Author(id=1, name="Kim"))
    assert "no connection to refresh with" in errors.bypassed
    assert read(factory) == (("Kim", 0), ["Kim"])
    assert errors.seen == []
    cache.detach(factory)
    cache.detach(engine)
    engine.dispose()


@pytest.mark.parametrize(("pool", "refreshes"), [(NullPool, True), (StaticPool, False)])
def test_other_pools(
    pool: Any, refreshes: bool, cache: Cache, library: Engine, redis_log: RedisLog
) -> None:
    """Without a pool there is always a connection; with a single one there never is."""
    engine = create_engine(library.url, poolclass=pool)
    factory = sessionmaker(engine)
    cache.attach(factory)
    write(factory, Author(id=1, name="Kim"))
    assert ("publish" in redis_log.names()) is refreshes
    cache.detach(factory)
    cache.detach(engine)
    engine.dispose()


def test_autocommit_refreshes_too(
    sessions: sessionmaker[Session], library: Engine, sql_log: SqlLog
) -> None:
    """Each statement is its own commit."""
    write(sessions, Author(id=1, name="Kim"))
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(AUTHORS).where(Author.id == 1).values(name="Choi"))
    sql_log.clear()
    assert read(sessions) == (("Choi", 0), ["Choi"])
    assert sql_log == []


def test_redis_away_costs_no_query(private_redis: PrivateRedis, library: Engine) -> None:
    """What cannot be published is not read; the commit succeeds."""
    with patient_cache(private_redis.url, regions=REGIONS) as cache:
        factory = sessionmaker(library)
        cache.attach(factory)
        write(factory, Author(id=1, name="Kim"))
        private_redis.kill()
        log = SqlLog()
        log.follow(library)
        write(factory, Author(id=2, name="Lee"))
        assert [line.split()[0] for line in log.statements] == ["INSERT"]
        assert read(factory, 2) == (("Lee", 0), ["Kim", "Lee"])
        cache.detach(factory)
        cache.detach(library)


async def test_async_commits_refresh_as_well(
    cache: Cache, library: Engine, async_database_url: str, errors: Errors
) -> None:
    """Inside the greenlet of the commit, on a connection of the same async engine."""
    engine = create_async_engine(async_database_url)
    factory: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    cache.attach(factory)
    log = SqlLog()
    log.follow(engine)
    async with factory() as session:
        session.add_all([Author(id=1, name="Kim"), Book(id=1, title="a", author_id=1)])
        await session.commit()
    log.clear()
    async with factory() as session:
        row = (await session.execute(shelf_of(author_id=1))).one()
        assert (row.Author.name, row.books) == ("Kim", 1)
        assert (await session.scalars(names())).all() == ["Kim"]
    assert log == []
    assert errors.seen == []
    cache.detach(factory)
    cache.detach(engine)
    await engine.dispose()


def test_a_failed_commit_refreshes_nothing(
    sessions: sessionmaker[Session], library: Engine, redis_log: RedisLog
) -> None:
    """The error is the database's own."""
    with library.begin() as connection:
        connection.execute(text(_LATE))
    with sessions() as session:
        session.add_all([Author(id=1, name="Kim"), *(Book(id=n, title="same") for n in (1, 2))])
        with pytest.raises(DBAPIError):
            session.commit()
    assert "publish" not in redis_log.names()


_LATE = (
    "alter table refreshed_books add constraint late unique (title) deferrable initially deferred"
)
