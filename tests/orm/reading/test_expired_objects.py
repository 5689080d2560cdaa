"""Refilling expired objects: from the cache what it holds, from the database what it does not."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError

from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.library import Author, Book, Dog

Sessions = sessionmaker[Session]


@pytest.fixture
def warm(stocked: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> Sessions:
    """The served factory, with books and author cached."""
    with stocked() as session:
        for class_, ident in ((Book, 1), (Book, 2), (Author, 1)):
            session.get(class_, ident)
    redis_log.clear()
    sql_log.clear()
    return stocked


def test_after_a_commit(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """Objects expired by a commit are refilled from the cache, not by one SELECT each."""
    with warm() as session:
        books = [session.get_one(Book, ident) for ident in (1, 2)]
        session.commit()
        assert all(inspect(book).expired for book in books) or not session.in_transaction()
        session.expire_all()
        redis_log.clear()
        assert [book.title for book in books] == ["one", "two"]
    assert redis_log == ["mget", "mget"]
    assert sql_log == []


def test_after_a_commit_that_wrote(warm: Sessions, sql_log: SqlLog) -> None:
    """The row that was written is read once and cached; the other comes from the cache."""
    with warm() as session:
        books = [session.get_one(Book, ident) for ident in (1, 2)]
        books[0].title = "new"
        session.commit()
        sql_log.clear()
        assert [book.title for book in books] == ["new", "two"]
        assert len(sql_log) == 1
    sql_log.clear()
    with warm() as session:
        assert session.get_one(Book, 1).title == "new"
    assert sql_log == []


async def test_after_an_async_commit(
    async_sessions: async_sessionmaker[AsyncSession], sql_log: SqlLog
) -> None:
    """The same in async, through ``awaitable_attrs``."""
    async with async_sessions() as session:
        book = await session.get_one(Book, 1)
        author = await session.get_one(Author, 1)
        book.title = "new"
        await session.commit()
        sql_log.clear()
        assert await author.awaitable_attrs.name == "Kim"
        assert sql_log == []
        assert await book.awaitable_attrs.title == "new"


def test_refresh_goes_to_the_database(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """session.refresh() asks the database, whatever is cached."""
    with warm() as session:
        book = session.get_one(Book, 1)
        redis_log.clear()
        session.refresh(book)
        assert book.title == "one"
    assert redis_log == []
    assert len(sql_log) == 1


def test_left_out_attribute(warm: Sessions, sql_log: SqlLog) -> None:
    """After a refill the excluded attribute loads from the database when it is touched."""
    with warm() as session:
        book = session.get_one(Book, 1)
        session.expire(book)
        assert book.title == "one"
        assert sql_log == []
        assert book.secret == "s"
        assert len(sql_log) == 1
        assert "secret" in sql_log.statements[0]
        session.expire(book)
        assert book.secret == "s"


def test_left_out_attribute_is_never_stale(warm: Sessions, plain: Sessions) -> None:
    """The excluded attribute is what the database holds when it is touched."""
    with warm() as session:
        book = session.get_one(Book, 1)
        with plain() as other:
            other.get_one(Book, 1).secret = "t"
            other.commit()
        assert book.secret == "t"


def test_partly_expired(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """Only what is expired is refilled."""
    with warm() as session:
        book = session.get_one(Book, 1)
        book.__dict__["mood"] = None  # not a change that the session knows
        session.expire(book, ["title"])
        redis_log.clear()
        assert book.title == "one"
        assert book.mood is None
    assert redis_log == ["mget"]
    assert sql_log == []


def test_changed_attribute_is_kept(warm: Sessions) -> None:
    """A refill never overwrites what the session changed."""
    with warm() as session:
        book = session.get_one(Book, 1)
        session.expire(book)
        book.title = "mine"
        assert book.author_id == 1
        assert book.title == "mine"
        session.commit()
    with warm() as session:
        assert session.get_one(Book, 1).title == "mine"


def test_expired_get(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """get of an expired object of the session refills it from the cache."""
    with warm() as session:
        book = session.get_one(Book, 1)
        session.expire(book)
        redis_log.clear()
        assert session.get(Book, 1) is book
        assert "title" in book.__dict__
    assert redis_log == ["mget"]
    assert sql_log == []


def test_row_is_gone(warm: Sessions) -> None:
    """A deleted row raises ObjectDeletedError, as without a cache."""
    with warm() as session:
        book = session.get_one(Book, 2)
        session.expire(book)
        with warm() as other:
            other.execute(text("delete from books where id = 2"))
            other.commit()
        with pytest.raises(ObjectDeletedError):
            _ = book.title
        assert session.get(Book, 2) is None


def test_detached(warm: Sessions) -> None:
    """An expired object without a session raises as SQLAlchemy's."""
    with warm() as session:
        book = session.get_one(Book, 1)
        session.expire(book)
    with pytest.raises(DetachedInstanceError):
        _ = book.title


def test_transient_refresh(warm: Sessions) -> None:
    """Refreshing what the session does not hold is SQLAlchemy's error."""
    with warm() as session, pytest.raises(InvalidRequestError):
        session.refresh(Book(id=1))


def test_subclass(stocked: Sessions, sql_log: SqlLog) -> None:
    """An expired object of a subclass is refilled with all its tables' columns."""
    with stocked() as session:
        session.add(Dog(id=1, name="Rex", tricks=3))
        session.commit()
        session.get(Dog, 1)
    with stocked() as session:
        dog = session.get_one(Dog, 1)
        session.expire(dog)
        sql_log.clear()
        assert (dog.name, dog.tricks) == ("Rex", 3)
    assert sql_log == []
