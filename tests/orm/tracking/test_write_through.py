"""Write-through: after the commit the new row is in place, or nothing is; never another's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, String, create_engine, delete, func, insert, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, sessionmaker

from cachedorm import Cached, CachePolicy, Region
from tests.fixtures.logs import SqlLog
from tests.support.orm.entries import Entries
from tests.support.orm.library import Token

Sessions = sessionmaker[Session]

tokens: Any = Token.__table__
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Two tokens, cached."""
    with sessions.begin() as session:
        session.add_all(Token(id=name, owner="kim", expires_at=LATER) for name in "ab")
    entries.fill("token:a", "token:b")


@pytest.fixture
def stored(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client on the tokens' database."""
    with redis.Redis.from_url(redis_url, db=2) as client:
        yield client


def own(session: Session, name: str, owner: str) -> None:
    session.get_one(Token, name).owner = owner


def test_update_by_flush(sessions: Sessions, entries: Entries) -> None:
    """The first read after the commit is a hit, and shows the new row."""
    with sessions.begin() as session:
        own(session, "a", "lee")
    assert entries.ended("token:a", "token:b") == []
    assert entries.read("token:a")["owner"] == "lee"


def test_insert_by_flush(sessions: Sessions, entries: Entries) -> None:
    """A new row is served at once."""
    with sessions.begin() as session:
        session.add(Token(id="c", owner="pak", expires_at=LATER))
    assert entries.ended("token:c") == []


def test_server_computed_columns(library: Engine, entries: Entries) -> None:
    """What stands in the cache is the database's row, not what the statement said."""
    statement = update(tokens).where(tokens.c.id == "a")
    with library.begin() as connection:
        connection.execute(
            statement.values(owner=func.upper("lee"), expires_at=func.now() + text("'2 h'"))
        )
    assert entries.ended("token:a") == []
    assert entries.read("token:a")["owner"] == "LEE"


def test_last_of_several_writes(sessions: Sessions, entries: Entries) -> None:
    """Only what the transaction leaves behind is put in place."""
    with sessions.begin() as session:
        own(session, "a", "first")
        session.flush()
        own(session, "a", "second")
    assert entries.ended("token:a") == []
    assert entries.read("token:a")["owner"] == "second"


def test_deleted_row(sessions: Sessions, entries: Entries) -> None:
    """Of a deleted row nothing is put, though it was updated before."""
    with sessions.begin() as session:
        own(session, "a", "lee")
        session.flush()
        session.delete(session.get_one(Token, "a"))
    assert entries.ended("token:a", "token:b") == ["token:a"]


def test_rollback_puts_nothing(sessions: Sessions, entries: Entries) -> None:
    """A row that was never committed is never put."""
    with sessions() as session:
        own(session, "a", "lee")
        session.flush()
        session.rollback()
    assert entries.ended("token:a") == []
    assert entries.read("token:a")["owner"] == "kim"


def test_row_derived_ttl(sessions: Sessions, stored: redis.Redis) -> None:
    """The entry lives as long as the new row says."""
    with sessions.begin() as session:
        session.get_one(Token, "a").expires_at = datetime.now(UTC) + timedelta(minutes=5)
    remaining = stored.pttl("token:a")
    assert isinstance(remaining, int)
    assert 250_000 < remaining <= 300_000


def test_expired_row(sessions: Sessions, stored: redis.Redis) -> None:
    """A row that has expired already is not put."""
    with sessions.begin() as session:
        session.get_one(Token, "a").expires_at = datetime.now(UTC) - timedelta(minutes=5)
    assert not stored.exists("token:a")


def test_wildcard_in_between(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """A writer of the whole table that commits meanwhile makes what was put invalid."""
    with sessions() as session:
        own(session, "a", "lee")
        session.flush()
        with library.begin() as connection:
            connection.execute(text("update tokens set owner = 'x' where id = 'b'"))
        session.commit()
    entries.fill("token:a", "token:b")
    assert entries.read("token:b")["owner"] == "x"


def test_own_wildcard(sessions: Sessions, entries: Entries) -> None:
    """A transaction that also touched the whole table puts nothing."""
    with sessions.begin() as session:
        own(session, "a", "lee")
        session.flush()
        session.execute(text("update tokens set owner = 'x'"))
    assert entries.ended("token:a", "token:b") == ["token:a", "token:b"]
    assert entries.read("token:a")["owner"] == "x"


def test_overlapping_writers(
    sessions: Sessions, database_url: str, entries: Entries, stored: redis.Redis
) -> None:
    """Two commits that overlap put nothing: neither knows whose row is the last."""
    engine = create_engine(database_url)
    entries.cache.attach(engine)

    def commit_meanwhile(dbapi_connection: Any) -> None:
        with engine.begin() as connection:
            connection.execute(insert(tokens).values(id="c", owner="x", expires_at=LATER))
        with engine.begin() as connection:
            connection.execute(delete(tokens).where(tokens.c.id == "c"))
        original(dbapi_connection)

    with sessions() as session:
        # It writes "c" as well, by a row that another one holds no lock on.
        session.execute(delete(Token).where(Token.id == "c"))
        bind: Any = session.get_bind()
        original = bind.dialect.__class__.do_commit.__get__(bind.dialect)
        wrapped = bind.dialect.do_commit
        closure = dict(zip(wrapped.__code__.co_freevars, wrapped.__closure__, strict=True))
        closure["commit"].cell_contents = commit_meanwhile
        session.commit()
        closure["commit"].cell_contents = original
    assert not stored.exists("token:c")
    assert entries.read("token:c") is None
    entries.cache.detach(engine)
    engine.dispose()


def test_row_not_written(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """A row that the statement named, but did not write, is not locked, and so not put."""
    with library.connect() as connection, connection.begin() as transaction:
        connection.execute(
            update(tokens).where(tokens.c.id == "a", tokens.c.owner == "nobody").values(owner="x")
        )
        with sessions.begin() as session:
            own(session, "a", "lee")
        transaction.commit()
    assert entries.ended("token:a") == ["token:a"]
    assert entries.read("token:a")["owner"] == "lee"


def test_savepoint_rollback(sessions: Sessions, entries: Entries, sql_log: SqlLog) -> None:
    """Rows written in a savepoint that was rolled back are unlocked, and so not put."""
    with sessions() as session:
        nested = session.begin_nested()
        own(session, "a", "undone")
        session.flush()
        nested.rollback()
        with sessions.begin() as other:
            own(other, "a", "lee")
        session.commit()
    assert entries.ended("token:a") == ["token:a"]
    assert entries.read("token:a")["owner"] == "lee"


def test_savepoint_rollback_as_text(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """ROLLBACK TO as SQL text unlocks rows as well."""
    with library.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("SAVEPOINT one")
        connection.execute(update(tokens).where(tokens.c.id == "a").values(owner="undone"))
        connection.exec_driver_sql("ROLLBACK TO one")
        with sessions.begin() as other:
            own(other, "a", "lee")
        transaction.commit()
    assert entries.ended("token:a") == ["token:a"]


def test_upsert(library: Engine, entries: Entries) -> None:
    """An upsert by the key puts the row that it left; one that did nothing puts none."""
    new = postgresql.insert(tokens).values(id="a", owner="lee", expires_at=LATER)
    with library.begin() as connection:
        changed = {"owner": new.excluded.owner}
        connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=changed))
    assert entries.ended("token:a") == []
    assert entries.read("token:a")["owner"] == "lee"
    with library.begin() as connection:
        connection.execute(new.on_conflict_do_nothing())
    assert entries.ended("token:a") == ["token:a"]


def test_trigger(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """A table with triggers is invalidated only: a deferred one changes the row unseen."""
    with library.begin() as connection:
        for sql in _DEFERRED_TRIGGER:
            connection.execute(text(sql))
    library.dispose()  # the next connection sees it
    entries.fill("token:a", "token:b")
    with sessions.begin() as session:
        own(session, "a", "lee")
    assert entries.ended("token:a", "token:b") == ["token:a"]
    assert entries.read("token:a")["owner"] == "lee!"


_DEFERRED_TRIGGER = (
    "create function shout() returns trigger language plpgsql as $$ begin"
    " if new.owner not like '%!' then"
    " update tokens set owner = owner || '!' where id = new.id; end if; return null; end $$",
    "create constraint trigger shout after update on tokens deferrable initially deferred"
    " for each row execute function shout()",
)


def test_aborted_transaction(library: Engine, entries: Entries) -> None:
    """COMMIT of a transaction that failed is its rollback, with or without us."""
    with library.connect() as connection:
        connection.execute(update(tokens).where(tokens.c.id == "a").values(owner="lee"))
        with pytest.raises(DBAPIError):
            connection.execute(text("select nothing"))
        connection.commit()
    entries.fill("token:a")
    assert entries.read("token:a")["owner"] == "kim"


def test_new_rows_cannot_be_read(library: Engine, entries: Entries) -> None:
    """If reading the new rows fails, so does the commit, and the connection is clean again."""
    with library.connect() as connection:
        connection.execute(update(tokens).where(tokens.c.id == "a").values(owner="lee"))
        connection.execute(text("alter table tokens rename to gone"))
        with pytest.raises(DBAPIError, match="tokens"):
            connection.commit()
    with library.begin() as connection:
        assert connection.execute(text("select owner from tokens where id = 'a'")).scalar() == "kim"
    entries.fill("token:a")


def test_a_model_of_another_cache(library: Engine, entries: Entries) -> None:
    """A model of the same table whose region this Cache does not have fails no commit."""

    class Elsewhere(DeclarativeBase):
        pass

    body = {
        "__tablename__": "tokens",
        "__cache__": CachePolicy(
            Region("elsewhere", db=5, ttl=60), key="else:{id}", on_write="write_through"
        ),
        "__module__": __name__,
        "id": mapped_column(String, primary_key=True),
    }
    type("Theirs", (Cached, Elsewhere), body)
    with library.begin() as connection:
        connection.execute(update(tokens).where(tokens.c.id == "a").values(owner="lee"))
    assert entries.read("token:a")["owner"] == "lee"
    Elsewhere.registry.dispose()


def test_cost(sessions: Sessions, sql_log: SqlLog) -> None:
    """A write-through costs one SELECT a model, however many rows."""
    with sessions() as session:
        own(session, "a", "x")
        own(session, "b", "y")
        session.flush()
        sql_log.clear()
        session.commit()
    assert len(sql_log) == 1
