"""Lazy many-to-one loads from the cache."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, raiseload, sessionmaker
from sqlalchemy.orm.base import PASSIVE_NO_FETCH, PASSIVE_NO_RESULT, instance_state

from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.library import Author, Book, Letter

Sessions = sessionmaker[Session]


@pytest.fixture
def warm(stocked: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> Sessions:
    """The served factory, with two books and an author cached."""
    with stocked() as session:
        session.add(Letter(id=1, author_id=1))
        session.commit()
        session.get(Author, 1)
    with stocked() as session:
        for class_, ident in ((Book, 1), (Book, 2), (Author, 1), (Letter, 1)):
            session.get(class_, ident)
    redis_log.clear()
    sql_log.clear()
    return stocked


def test_served(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """A book and its author come with two commands and no SQL."""
    with warm() as session:
        book = session.get_one(Book, 1)
        assert book.author is not None
        assert book.author.name == "Kim"
        assert book.author in session
        assert book.author is session.get(Author, 1)
    assert redis_log == ["mget", "mget"]
    assert sql_log == []


async def test_served_in_async(
    async_sessions: async_sessionmaker[AsyncSession], sql_log: SqlLog
) -> None:
    """The same through ``awaitable_attrs``."""
    for _ in range(2):
        sql_log.clear()
        async with async_sessions() as session:
            book = await session.get_one(Book, 1)
            assert (await book.awaitable_attrs.author).name == "Kim"
    assert sql_log == []


def test_null_foreign_key(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """A null foreign key asks nobody."""
    with warm() as session:
        assert session.get_one(Book, 2).author is None
    assert redis_log == ["mget"]
    assert sql_log == []


def test_no_such_parent(warm: Sessions, sql_log: SqlLog) -> None:
    """A foreign key to a row that is not there gives None, as SQLAlchemy does."""
    with warm() as session:
        session.execute(text("alter table books drop constraint books_author_id_fkey"))
        session.execute(text("update books set author_id = 77"))
        session.commit()
    for _ in range(2):
        with warm() as session:
            assert session.get_one(Book, 1).author is None


def test_raiseload(warm: Sessions) -> None:
    """A query that forbids lazy loads is obeyed, cached parent or not."""
    for sql_only in (True, False):
        with warm() as session:
            statement = select(Book).options(raiseload(Book.author, sql_only=sql_only))
            book = session.scalars(statement.where(Book.id == 1)).one()
            with pytest.raises(InvalidRequestError, match="raise"):
                _ = book.author


@pytest.mark.parametrize("name", ["raising", "raising_on_sql"])
def test_relationship_that_raises(warm: Sessions, name: str) -> None:
    """A relationship that is declared to raise does so, cached parent or not."""
    with warm() as session, pytest.raises(InvalidRequestError, match="lazy='raise"):
        getattr(session.get_one(Letter, 1), name)


def test_no_fetch(warm: Sessions, redis_log: RedisLog) -> None:
    """Whoever asks not to fetch gets no result, and Redis is not asked."""
    with warm() as session:
        book = session.get_one(Book, 1)
        redis_log.clear()
        state = instance_state(book)
        found = state.get_impl("author").get(state, state.dict, passive=PASSIVE_NO_FETCH)
        assert found is PASSIVE_NO_RESULT
    assert redis_log == []


def test_join_on_more_than_the_key(warm: Sessions, redis_log: RedisLog) -> None:
    """A relationship with a condition of its own is plain SQL."""
    with warm() as session:
        letter = session.get_one(Letter, 1)
        redis_log.clear()
        assert letter.kim is not None
        assert letter.lee is None
    assert redis_log == []


def test_change_is_kept(warm: Sessions) -> None:
    """Setting a relationship after its lazy load is written."""
    with warm() as session:
        book = session.get_one(Book, 1)
        assert book.author is not None
        book.author = None
        session.commit()
    with warm() as session:
        assert session.get_one(Book, 1).author_id is None


def test_backref_without_load(warm: Sessions, redis_log: RedisLog) -> None:
    """Assigning a parent needs none of its old self."""
    with warm() as session:
        book = session.get_one(Book, 2)
        book.author = session.get_one(Author, 1)
        session.commit()
    with warm() as session:
        assert session.get_one(Book, 2).author_id == 1
