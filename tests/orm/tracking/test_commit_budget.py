"""What a commit costs: Redis commands and SQL statements, counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker

from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book, Diary, Place, Token

Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """A hundred books, and a place, cached in part."""
    with sessions.begin() as session:
        session.add_all(Book(title="old") for _ in range(100))
        session.add(Place(code="a"))
    entries.fill("book:1", "place:a")


def verbs(sql_log: SqlLog) -> list[str]:
    return [statement.split()[0] for statement in sql_log.statements]


@pytest.mark.parametrize("rows", [1, 100])
def test_one_database(sessions: Sessions, redis_log: RedisLog, rows: int) -> None:
    """A commit is two scripts, however many rows."""
    with sessions() as session:
        for book in session.query(Book).where(Book.id <= rows):
            book.title = "new"
        session.flush()
        redis_log.clear()
        session.commit()
    assert redis_log == ["intend", "settle"]


def test_several_databases(sessions: Sessions, redis_log: RedisLog) -> None:
    """A script a database, in one send before COMMIT and one after it."""
    with sessions() as session:
        session.get_one(Book, 1).title = "new"
        session.get_one(Place, 1).title = "new"
        session.flush()
        redis_log.clear()
        session.commit()
    assert redis_log == ["intend", "intend", "settle", "settle"]
    assert len({command.client for command in redis_log.commands()}) == 1
    assert [command.db for command in redis_log.commands()] == [1, 2, 1, 2]


def test_write_through(sessions: Sessions, redis_log: RedisLog) -> None:
    """Putting values in place costs no further command."""
    later = datetime.now(UTC) + timedelta(hours=1)
    with sessions() as session:
        session.add_all(Token(id=str(n), owner="", expires_at=later) for n in range(20))
        redis_log.clear()
        session.commit()
    assert redis_log == ["intend", "settle"]


def test_reading_only(sessions: Sessions, redis_log: RedisLog) -> None:
    """A transaction that only read sends Redis nothing at its end."""
    with sessions() as session:
        assert session.query(Book).count() == 100
        redis_log.clear()
        session.commit()
    assert redis_log == []


def test_uncached_table(sessions: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """A write to a table that nobody caches costs nothing."""
    with sessions() as session:
        session.connection()
        redis_log.clear()
        sql_log.clear()
        session.add(Diary(text="dear"))
        session.commit()
    assert redis_log == []
    assert verbs(sql_log) == ["INSERT"]


def test_flush_by_key(sessions: Sessions, sql_log: SqlLog) -> None:
    """Rows cached by their primary key are followed without a query."""
    with sessions() as session:
        one, two = session.get_one(Book, 1), session.get_one(Book, 2)
        session.connection()
        sql_log.clear()
        one.title = "new"
        session.delete(two)
        session.add(Book(title="c"))
        session.commit()
    assert sorted(verbs(sql_log)) == ["DELETE", "INSERT", "UPDATE"]


def test_flush_by_natural_key(sessions: Sessions, sql_log: SqlLog) -> None:
    """Rows cached by another key cost one SELECT a statement, just before it."""
    with sessions() as session:
        place = session.get_one(Place, 1)
        sql_log.clear()
        place.title = "new"
        session.commit()
    assert verbs(sql_log) == ["SELECT", "UPDATE"]
    assert "FOR NO KEY UPDATE" in sql_log.statements[0]


def test_bulk_by_filter(library: Engine, sql_log: SqlLog) -> None:
    """A bulk write by a filter costs one SELECT."""
    with library.begin() as connection:
        sql_log.clear()
        connection.execute(update(Author).where(Author.name == "x").values(name="y"))
    assert verbs(sql_log) == ["SELECT", "UPDATE"]
