"""Savepoints, rollbacks, AUTOCOMMIT, two phases, several binds: when a write is told."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from sqlalchemy import Connection, Engine, create_engine, insert, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import PATIENCE
from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book, Place

Sessions = sessionmaker[Session]

BOOKS = ["book:1", "book:2"]

books: Any = Book.__table__


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Two books, cached."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title="old") for number in (1, 2))
    entries.fill(*BOOKS)


def rename(connection: Connection, number: int = 1, title: str = "new") -> None:
    connection.execute(update(books).where(books.c.id == number).values(title=title))


# --- savepoints and rollbacks


def test_savepoint_release_is_no_commit(sessions: Sessions, entries: Entries) -> None:
    """A reader between RELEASE and COMMIT caches the old row, and the commit ends that."""
    with sessions() as session:
        with session.begin_nested():
            session.get_one(Book, 1).title = "new"
        assert entries.ended(*BOOKS) == []
        session.commit()
    assert entries.ended(*BOOKS) == ["book:1"]


def test_savepoint_rollback(sessions: Sessions, entries: Entries) -> None:
    """What a savepoint's rollback undid may end too; what was written around it does."""
    with sessions() as session:
        session.get_one(Book, 1).title = "kept"
        session.flush()
        nested = session.begin_nested()
        session.get_one(Book, 2).title = "undone"
        session.flush()
        nested.rollback()
        session.commit()
    assert "book:1" in entries.ended(*BOOKS)
    assert entries.read("book:1")["title"] == "kept"


def test_nested_savepoints(sessions: Sessions, entries: Entries) -> None:
    """The innermost write of three levels is told at the one COMMIT."""
    with sessions() as session:
        with session.begin_nested(), session.begin_nested():
            session.get_one(Book, 2).title = "new"
        session.commit()
    assert entries.ended(*BOOKS) == ["book:2"]


def test_rollback_tells_nothing(sessions: Sessions, entries: Entries, redis_log: RedisLog) -> None:
    """A transaction that is rolled back sends Redis nothing and ends nothing."""
    redis_log.clear()
    with sessions() as session:
        session.get_one(Book, 1).title = "undone"
        session.flush()
        redis_log.clear()
        session.rollback()
        assert redis_log == []
    assert entries.ended(*BOOKS) == []


def test_session_used_again(sessions: Sessions, entries: Entries) -> None:
    """Each of a session's transactions tells its own writes, and no other's."""
    with sessions() as session:
        session.get_one(Book, 1).title = "first"
        session.commit()
        entries.fill(*BOOKS)
        session.get_one(Book, 2).title = "second"
        session.commit()
        assert entries.ended(*BOOKS) == ["book:2"]


# --- AUTOCOMMIT


def test_autocommit_engine(database_url: str, cache: Cache, entries: Entries) -> None:
    """On an AUTOCOMMIT engine each statement is a commit, and told as one."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    cache.attach(engine)
    with engine.connect() as connection:
        rename(connection)
        assert entries.ended(*BOOKS) == ["book:1"]
        connection.rollback()
    with engine.begin() as connection:
        rename(connection, 2)
        assert entries.ended(*BOOKS) == ["book:2"]
    cache.detach(engine)
    engine.dispose()


def test_autocommit_connection(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """So on a connection: INTEND before the statement, SETTLE after it, nothing at its end."""
    redis_log.clear()
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        rename(connection)
        connection.commit()
    assert redis_log == ["intend", "settle"]
    assert entries.ended(*BOOKS) == ["book:1"]


def test_autocommit_insert(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """An INSERT hides the keys that its parameters tell before it runs."""
    entries.fill("book:7")
    redis_log.clear()
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(books).values(id=7, title=""))
    assert redis_log == ["intend", "settle"]
    assert entries.ended("book:7", *BOOKS) == ["book:7"]


def test_autocommit_insert_of_the_same_kind(
    library: Engine, entries: Entries, redis_log: RedisLog
) -> None:
    """So does the next one, whose SQL was compiled for another statement."""
    entries.fill("book:7", "book:8")
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(books).values(id=7, title=""))
        redis_log.clear()
        connection.execute(insert(books).values(id=8, title=""))
    assert redis_log == ["intend", "settle"]
    assert entries.ended("book:7", "book:8", *BOOKS) == ["book:7", "book:8"]


def test_autocommit_generated_key(library: Engine, entries: Entries) -> None:
    """A key that the database made is told after the statement."""
    entries.fill("book:3")
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("select setval('books_id_seq', 2)"))
        connection.execute(insert(books).values(title=""))
    assert entries.ended("book:3", *BOOKS) == ["book:3"]


def test_autocommit_failure(library: Engine, entries: Entries, redis_client: redis.Redis) -> None:
    """A statement that fails leaves no intent behind."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(DBAPIError):
            connection.execute(update(books).where(books.c.id == 1).values(author_id=99))
        rename(connection, 2)
    entries.fill(*BOOKS)


# --- the COMMIT itself


def test_deferred_constraint(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """A COMMIT that the database refuses is settled, and the old row is cacheable again."""
    with library.begin() as connection:
        connection.execute(
            text("alter table books alter constraint books_author_id_fkey deferrable")
        )
    entries.fill(*BOOKS)
    with sessions() as session:
        session.execute(text("set constraints all deferred"))
        session.get_one(Book, 1).author_id = 99
        with pytest.raises(IntegrityError):
            session.commit()
    assert entries.ended(*BOOKS) == ["book:1"]
    assert entries.ended(*BOOKS) == []
    assert entries.read("book:1")["author_id"] is None


def test_lost_before_commit(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """A connection that was lost before COMMIT leaves nothing hidden once that is known."""
    with sessions() as session:
        session.get_one(Book, 1).title = "new"
        session.flush()
        pid = session.execute(text("select pg_backend_pid()")).scalar_one()
        with library.connect() as other:
            other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(DBAPIError):
            session.commit()
    _mended(entries)
    entries.fill(*BOOKS)
    assert entries.read("book:1")["title"] == "old"


def _mended(entries: Entries) -> None:
    """Wait for the end of the thread that looks after commits of unknown outcome."""
    thread = entries.cache._store._retry_thread._thread
    if thread is not None:
        thread.join(PATIENCE)


def test_closed_cache(
    sessions: Sessions, cache: Cache, plain: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit that a closed cache cannot follow succeeds; the log says once what that costs."""
    with sessions() as session:
        book = session.get_one(Book, 1)
        book.title = "kept"
        session.flush()
        cache.close()
        session.commit()
    with plain() as session:
        assert session.get_one(Book, 1).title == "kept"
        session.get_one(Book, 1).title = "again"
        session.commit()
    assert cache.stats().errors["closed"] == 1
    assert "after this Cache was closed, so its invalidation is not sent" in caplog.text


# --- two phases


def test_two_phase(sessions: Sessions, entries: Entries, redis_log: RedisLog) -> None:
    """Intents at PREPARE, settle at COMMIT PREPARED."""
    with sessions(twophase=True) as session:
        session.get_one(Book, 1).title = "new"
        session.flush()
        redis_log.clear()
        session.prepare()
        assert redis_log == ["intend"]
        session.commit()
        assert redis_log == ["intend", "settle"]
    assert entries.ended(*BOOKS) == ["book:1"]
    assert entries.ended(*BOOKS) == []


def test_two_phase_without_prepare(sessions: Sessions, entries: Entries) -> None:
    """A Session prepares and commits in one go."""
    with sessions(twophase=True) as session:
        session.get_one(Book, 1).title = "new"
        session.commit()
    assert entries.ended(*BOOKS) == ["book:1"]


def test_two_phase_in_one(library: Engine, entries: Entries) -> None:
    """A two-phase transaction that was never prepared commits as any other."""
    with library.connect() as connection:
        transaction = connection.begin_twophase()
        rename(connection)
        transaction.commit()
    assert entries.ended(*BOOKS) == ["book:1"]


def test_two_phase_rollback(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """ROLLBACK PREPARED uncovers what PREPARE hid; without PREPARE nothing is told."""
    with library.connect() as connection:
        transaction = connection.begin_twophase()
        rename(connection)
        redis_log.clear()
        transaction.rollback()
        assert redis_log == []
        transaction = connection.begin_twophase()
        rename(connection)
        transaction.prepare()
        transaction.rollback()
    entries.fill(*BOOKS)
    assert entries.read("book:1")["title"] == "old"


def _prepared(engine: Engine, xid: str) -> None:
    """Prepare a transaction that its connection does not end."""
    with engine.connect() as connection:
        transaction = connection.begin_twophase(xid)
        rename(connection)
        transaction.prepare()
        connection.invalidate()


def test_prepared_here_committed_on_another_connection(library: Engine, entries: Entries) -> None:
    """This process knows what it prepared, whichever connection ends it."""
    _prepared(library, "_sa_one")
    with library.connect() as connection:
        connection.commit_prepared("_sa_one", recover=True)
    assert entries.ended(*BOOKS) == ["book:1"]
    assert entries.ended(*BOOKS) == []


def test_name_prepared_again(library: Engine, database_url: str, entries: Entries) -> None:
    """A name of the application's own may be another transaction's by now: everything ends."""
    elsewhere = create_engine(database_url)
    _prepared(library, "job")
    with elsewhere.connect() as connection:
        connection.rollback_prepared("job", recover=True)
    with elsewhere.connect() as connection:
        transaction = connection.begin_twophase("job")
        rename(connection, 2)
        transaction.prepare()
        connection.invalidate()
    elsewhere.dispose()
    with library.connect() as connection:
        connection.commit_prepared("job", recover=True)
    assert entries.ended(*BOOKS) == BOOKS
    entries.fill(*BOOKS)


def test_prepared_elsewhere(library: Engine, database_url: str, entries: Entries) -> None:
    """A transaction of another process wrote nobody knows what: everything ends."""
    elsewhere = create_engine(database_url)
    _prepared(elsewhere, "two")
    elsewhere.dispose()
    with library.connect() as connection:
        connection.commit_prepared("two", recover=True)
    assert entries.ended(*BOOKS) == BOOKS


def test_prepared_as_text(library: Engine, entries: Entries) -> None:
    """PREPARE TRANSACTION and COMMIT PREPARED as text: everything ends at the second."""
    with library.connect() as connection:
        rename(connection)
        connection.exec_driver_sql("PREPARE TRANSACTION 'four'")
        connection.rollback()
    assert entries.ended(*BOOKS) == []
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("COMMIT PREPARED 'four'")
    assert entries.ended(*BOOKS) == BOOKS


# --- several engines, sessions on connections


@pytest.mark.parametrize(
    "mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
)
def test_session_on_a_connection(
    library: Engine, sessions: Sessions, entries: Entries, mode: Any
) -> None:
    """Whatever the session does with it, the connection's COMMIT is the commit."""
    with library.connect() as connection:
        outer = connection.begin()
        with sessions(bind=connection, join_transaction_mode=mode) as session:
            session.get_one(Book, 1).title = "new"
            session.commit()
        if outer.is_active:
            assert entries.ended(*BOOKS) == []
            outer.commit()
    assert entries.ended(*BOOKS) == ["book:1"]


def test_session_on_a_connection_in_a_savepoint(
    library: Engine, sessions: Sessions, entries: Entries
) -> None:
    """The session's rollback takes back its own savepoint only."""
    with library.connect() as connection:
        outer = connection.begin()
        rename(connection, 2)
        with sessions(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.get_one(Book, 1).title = "undone"
            session.rollback()
        outer.commit()
    assert "book:2" in entries.ended(*BOOKS)


def test_several_engines(
    database_url: str, library: Engine, cache: Cache, entries: Entries
) -> None:
    """A session over several engines of one database tells what it wrote on each."""
    other = create_engine(database_url)
    factory = sessionmaker(binds={Book: library, Author: other, Place: other})
    cache.attach(factory)
    entries.fill("author:1")
    with factory() as session:
        session.get_one(Book, 1).title = "new"
        session.add(Author(id=1, name="Kim"))
        session.commit()
    assert entries.ended("author:1", *BOOKS) == ["author:1", "book:1"]
    cache.detach(factory)
    cache.detach(other)
    other.dispose()
