"""SQL text: the tables it writes end, reads end nothing, and the unknown ends everything."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book, Place

Sessions = sessionmaker[Session]

BOOKS = ["book:1", "book:2"]
PLACES = ["place:a", "place:b"]
ALL = ["author:1", *BOOKS, *PLACES]


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """An author of two books, a place at a and none at b, all cached."""
    with sessions.begin() as session:
        session.add(Author(id=1, name="Kim"))
        session.flush()
        session.add_all([Book(id=n, title=f"t{n}", author_id=1) for n in (1, 2)])
        session.add(Place(code="a"))
    entries.fill(*ALL)


@pytest.mark.parametrize(
    ("sql", "ended"),
    [
        ("update books set title = 'new' where id = 1", BOOKS),
        ("insert into places (code, title) values ('b', '')", PLACES),
        ("delete from public.places", PLACES),
        ("delete from authors where id = 1", ["author:1", *BOOKS]),
        ("truncate places", PLACES),
        ("truncate authors cascade", ["author:1", *BOOKS]),
        ("with x as (delete from places returning 1) select * from x", PLACES),
        ("do $$ begin update books set title = 'new'; end $$", ALL),
        ("call rename()", ALL),
        ("update front set title = 'new'", ALL),
        ("select * from books where title = 'update places'", []),
        ("select id from books for update", []),
        ("explain update books set title = 'new'", ALL),
        ("create index titles on books (title)", ALL),
        ("alter table places add extra int", ALL),
        ("notify news", []),
    ],
)
def test_what_a_text_ends(library: Engine, entries: Entries, sql: str, ended: list[str]) -> None:
    """The tables that it writes, and those that the database changes in their wake."""
    with library.begin() as connection:
        connection.execute(text("create view front as select id, title from books"))
        connection.execute(
            text("create procedure rename() language sql as $$ update books set title = 'c' $$")
        )
    entries.fill(*ALL)
    with library.begin() as connection:
        connection.execute(text(sql))
    assert entries.ended(*ALL) == ended


def test_text_past_sqlalchemy(library: Engine, entries: Entries) -> None:
    """``exec_driver_sql`` is text as well."""
    with library.begin() as connection:
        connection.exec_driver_sql("update places set title = 'new' where code = 'a'")
    assert entries.ended(*ALL) == PLACES


def test_text_in_a_session(sessions: Sessions, entries: Entries) -> None:
    """Text with parameters, by a session, many at once."""
    statement = text("update places set title = :new where code = :code")
    with sessions.begin() as session:
        session.execute(statement, [{"new": "x", "code": "a"}, {"new": "y", "code": "b"}])
    assert entries.ended(*ALL) == PLACES


def test_copy(library: Engine, entries: Entries) -> None:
    """COPY past the engine is not seen; announced by an execution option it is."""
    with library.begin() as connection:
        options = {"cachedorm_writes": ("places",)}
        connection.execute(text("select 1"), execution_options=options)
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor().copy("copy places (code, title) from stdin") as copy:
            copy.write_row(("b", "new"))
    assert entries.ended(*ALL) == PLACES


def test_rolled_back_text(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """A text whose transaction is rolled back ends nothing and tells Redis nothing."""
    redis_log.clear()
    with library.connect() as connection:
        connection.execute(text("update books set title = 'new'"))
        connection.rollback()
        connection.execute(text("update books set title = 'new'"))
        connection.exec_driver_sql("ROLLBACK")
        connection.commit()
    assert redis_log == []
    assert entries.ended(*ALL) == []


def test_commit_as_text(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """COMMIT as text commits: intents before, settle after, as ever."""
    redis_log.clear()
    with library.connect() as connection:
        connection.execute(text("update books set title = 'new'"))
        connection.exec_driver_sql("COMMIT")
        assert redis_log == ["intend", "settle"]
        connection.rollback()
    assert entries.ended(*ALL) == BOOKS


def test_failed_commit_as_text(library: Engine, entries: Entries) -> None:
    """A COMMIT as text that fails ends its intents; what comes after it is followed."""
    with library.begin() as connection:
        connection.execute(
            text("alter table books alter constraint books_author_id_fkey deferrable")
        )
    entries.fill(*ALL)
    with library.connect() as connection:
        connection.execute(text("set constraints all deferred"))
        connection.execute(text("update books set author_id = 7"))
        with pytest.raises(Exception, match="violates foreign key"):
            connection.exec_driver_sql("COMMIT")
        connection.rollback()
        connection.execute(text("update places set title = 'new'"))
        connection.commit()
    assert set(PLACES) <= set(entries.ended(*ALL))
    assert entries.ended(*ALL) == []


def test_begin_under_autocommit(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """BEGIN as text opens a transaction that lasts until COMMIT, AUTOCOMMIT or not."""
    redis_log.clear()
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(text("update books set title = 'new'"))
        assert redis_log == []
        entries.fill("book:1")
        redis_log.clear()
        connection.exec_driver_sql("COMMIT")
        assert redis_log == ["intend", "settle"]
        assert entries.ended(*ALL) == BOOKS
        connection.execute(text("update places set title = 'new'"))
        assert entries.ended(*ALL) == PLACES


def test_rollback_under_autocommit(library: Engine, entries: Entries, redis_log: RedisLog) -> None:
    """ROLLBACK as text ends that transaction and tells Redis nothing."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        redis_log.clear()
        connection.exec_driver_sql("BEGIN")
        connection.execute(text("update books set title = 'new'"))
        connection.exec_driver_sql("ROLLBACK")
        assert redis_log == []
        connection.execute(text("update places set title = 'new'"))
    assert entries.ended(*ALL) == PLACES


def test_unreadable_text_may_commit(library: Engine, entries: Entries) -> None:
    """What may have ended the transaction is settled, and what it touched stays touched."""
    with library.connect() as connection:
        connection.execute(text("update books set title = 'new'"))
        # Where this string ends is a setting of the server's: what follows may be a COMMIT.
        connection.exec_driver_sql(r"select 'a\' as committed")
        entries.fill("book:1")
        # By now the transaction is known again, as one that has written no book.
        connection.execute(text("update places set title = 'new'"))
        connection.commit()
    assert entries.ended("book:1") == ["book:1"]


def test_savepoint_as_text(library: Engine, entries: Entries) -> None:
    """ROLLBACK TO SAVEPOINT is no end; too much may be ended, never too little."""
    with library.connect() as connection:
        connection.execute(text("update places set title = 'new'"))
        connection.exec_driver_sql("SAVEPOINT one")
        connection.execute(text("update books set title = 'new'"))
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
        connection.commit()
    assert set(PLACES) <= set(entries.ended(*ALL))


def test_set_lingers(sessions: Sessions, library: Engine, sql_log: SqlLog, cache: Cache) -> None:
    """After a SET this connection's reads bypass the cache, in the next transaction too."""
    with sessions() as session:
        session.execute(text("SET search_path = public"))
        session.commit()
    with sessions() as session:
        session.connection()
        sql_log.clear()
        assert session.get(Book, 1)
        assert len(sql_log) == 1
    library.dispose()
    with sessions() as session:
        session.connection()
        sql_log.clear()
        assert session.get(Book, 1)
        assert len(sql_log) == 0


def test_set_local_ends(sessions: Sessions, sql_log: SqlLog) -> None:
    """SET LOCAL ends with its transaction."""
    with sessions() as session:
        session.execute(text("SET LOCAL search_path = public"))
        sql_log.clear()
        assert session.get(Book, 1)
        assert len(sql_log) == 1
        session.commit()
        session.connection()
        sql_log.clear()
        assert session.get(Book, 2)
        assert len(sql_log) == 0
