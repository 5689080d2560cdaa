"""Transactions that the driver, the SQL text or the application ends past SQLAlchemy's events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text, update
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.support.orm.entries import Entries
from tests.support.orm.library import Book, Token

Sessions = sessionmaker[Session]

BOOKS = ["book:1", "book:2"]
books: Any = Book.__table__
tokens: Any = Token.__table__


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Two books and a token, cached."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title="old") for number in (1, 2))
        later = datetime.now(UTC) + timedelta(hours=1)
        session.add(Token(id="a", owner="kim", expires_at=later))
    entries.fill(*BOOKS, "token:a")


@pytest.fixture
def autocommitting(database_url: str, cache: Cache, library: Engine) -> Iterator[Engine]:
    """An attached engine whose driver commits each statement, which SQLAlchemy is not told."""
    engine = create_engine(database_url, connect_args={"autocommit": True})
    cache.attach(engine)
    yield engine
    cache.detach(engine)
    engine.dispose()


def rename(connection: Connection, number: int = 1) -> None:
    connection.execute(update(books).where(books.c.id == number).values(title="new"))


def test_text_that_begins_and_commits(library: Engine, entries: Entries) -> None:
    """BEGIN, a write and COMMIT in one text, under AUTOCOMMIT, are told when it has run."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN; UPDATE books SET title = 'new' WHERE id = 1; COMMIT")
        assert entries.ended(*BOOKS) == BOOKS
        assert entries.ended(*BOOKS) == []
        rename(connection, 2)
        assert entries.ended(*BOOKS) == ["book:2"]


def test_text_that_commits_and_begins(library: Engine, entries: Entries) -> None:
    """What a text leaves uncommitted is told at the COMMIT that follows."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "BEGIN; UPDATE books SET title = 'new' WHERE id = 1; COMMIT;"
            " BEGIN; UPDATE books SET title = 'new' WHERE id = 2"
        )
        assert entries.ended(*BOOKS) == BOOKS
        entries.fill(*BOOKS)
        connection.exec_driver_sql("COMMIT")
        assert entries.ended(*BOOKS) == BOOKS


def test_autocommit_of_the_driver(autocommitting: Engine, entries: Entries) -> None:
    """A statement that the driver commits by itself is told when it has run."""
    with autocommitting.connect() as connection:
        rename(connection)
        assert entries.ended(*BOOKS) == ["book:1"]
        assert entries.ended(*BOOKS) == []


def test_raw_commit(sessions: Sessions, entries: Entries) -> None:
    """A COMMIT on the DBAPI's connection is told at the rollback that follows."""
    with sessions() as session:
        session.get_one(Book, 1).title = "new"
        session.flush()
        session.connection().connection.commit()
        session.rollback()
    assert entries.ended(*BOOKS) == ["book:1"]


def test_attached_within_a_transaction(
    database_url: str, cache: Cache, library: Engine, entries: Entries
) -> None:
    """What was written before the engine was attached may be anything."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        rename(connection)
        cache.attach(engine)
        connection.commit()
        assert entries.ended(*BOOKS) == BOOKS
        rename(connection, 2)
        connection.commit()
        assert entries.ended(*BOOKS) == ["book:2"]
    cache.detach(engine)
    engine.dispose()


def test_session_joins_an_unseen_transaction(
    database_url: str, cache: Cache, sessions: Sessions, entries: Entries
) -> None:
    """A session on a connection that wrote before anybody followed its engine: anything."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        rename(connection)
        with sessions(bind=connection) as session:
            session.execute(text("select 1"))
            session.commit()
        connection.commit()
    assert entries.ended(*BOOKS) == BOOKS
    cache.detach(engine)
    engine.dispose()


def test_write_at_the_commit(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """A listener that writes at the commit, after the new rows were read: none is put in place."""

    def stamp(connection: Connection) -> None:
        connection.execute(update(tokens).values(owner=tokens.c.owner + "!"))

    event.listen(library, "commit", stamp)
    with sessions.begin() as session:
        session.get_one(Token, "a").owner = "lee"
    event.remove(library, "commit", stamp)
    assert entries.ended("token:a") == ["token:a"]
    assert entries.read("token:a")["owner"] == "lee!"


def test_text_at_the_commit(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """The same where what writes looks like a read."""

    def stamp(connection: Connection) -> None:
        connection.execute(text("select stamp_tokens()"))

    with library.begin() as connection:
        connection.execute(
            text(
                "create function stamp_tokens() returns int language sql as"
                " $$ update tokens set owner = 'fun'; select 1 $$"
            )
        )
    entries.fill("token:a")
    event.listen(library, "commit", stamp)
    with sessions.begin() as session:
        session.get_one(Token, "a").owner = "lee"
    event.remove(library, "commit", stamp)
    assert entries.ended("token:a") == ["token:a"]
