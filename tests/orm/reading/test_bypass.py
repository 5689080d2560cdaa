"""What must go past the cache, and what must not be published: a test for each rule.

Every test caches the true row, then writes "old" or "new" into the cached copy's or the
database's place, so that the answer tells where it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text, update
from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, selectinload, sessionmaker, with_loader_criteria

from cachedorm import Cache, Observer
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import REGIONS, Author, Base, Book, Desk, Place, Token

Sessions = sessionmaker[Session]


@pytest.fixture
def warm(stocked: Sessions, redis_log: RedisLog) -> Sessions:
    """The served factory, with Book 1 and Author 1 cached."""
    with stocked() as session:
        session.get(Book, 1)
        session.get(Author, 1)
    redis_log.clear()
    return stocked


def asks_redis(session: Session, redis_log: RedisLog) -> bool:
    """Whether the session asks the cache for a row it does not hold yet."""
    redis_log.clear()
    book = session.get(Book, 1)
    assert book is not None
    return "mget" in redis_log.names()


def reason(cache: Cache) -> str:
    """Why the only read that was passed by was."""
    ((_, found),) = cache.stats().bypasses
    return found


# --- own writes


OWN_WRITES: dict[str, Callable[[Session], Any]] = {
    "flush": lambda session: session.bulk_save_objects([Author(id=5, name="x")]),
    "bulk": lambda session: session.execute(update(Book).values(title="own")),
    "core": lambda session: session.connection().execute(insert(Desk).values(id=1)),
    "text": lambda session: session.execute(text("update books set title = 'own'")),
    "text unread": lambda session: session.execute(text("do $$ begin perform 1; end $$")),
}


@pytest.mark.parametrize("how", OWN_WRITES)
def test_own_writes(warm: Sessions, redis_log: RedisLog, cache: Cache, how: str) -> None:
    """A transaction that has written reads the database, until it has ended."""
    with warm() as session:
        OWN_WRITES[how](session)
        assert not asks_redis(session, redis_log)
        assert reason(cache) in ("own writes", "changed session state")
        session.rollback()
        session.expunge_all()
        assert asks_redis(session, redis_log)


def test_own_writes_are_not_published(stocked: Sessions, redis_log: RedisLog) -> None:
    """A row that nobody else can see yet is never stored."""
    with stocked() as session:
        session.execute(update(Book).values(title="own"))
        book = session.get(Book, 1)
        assert book is not None
        assert book.title == "own"
        assert "publish" not in redis_log.names()
        session.rollback()
    with stocked() as session:
        assert session.get_one(Book, 1).title == "one"


def test_unpublished_when_the_load_itself_writes(
    stocked: Sessions, library: Engine, redis_log: RedisLog
) -> None:
    """A transaction that begins with a write (an engine's ``begin`` listener's) publishes nothing.

    No read can know of it before its own load has begun the transaction.
    """

    @event.listens_for(library, "begin")
    def write(connection: Connection) -> None:
        connection.execute(text("update books set title = 'own'"))

    with stocked() as session:
        assert session.get_one(Book, 1).title == "own"
    assert "acquire" in redis_log.names()
    assert "publish" not in redis_log.names()


def test_savepoint_session_on_a_connection(
    warm: Sessions, library: Engine, redis_log: RedisLog
) -> None:
    """A session joined to a Connection sees what that connection wrote before the session."""
    with library.connect() as connection:
        connection.begin()
        connection.execute(text("update books set title = 'own'"))
        with warm(bind=connection, join_transaction_mode="create_savepoint") as session:
            assert session.get_one(Book, 1).title == "own"
        with warm(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.execute(text("select 1"))
            session.commit()
            assert session.get_one(Book, 1).title == "own"


def test_savepoint_of_the_session(warm: Sessions, redis_log: RedisLog) -> None:
    """A write in a savepoint counts outside of it, too."""
    with warm() as session:
        with session.begin_nested():
            session.execute(update(Book).values(title="own"))
        assert not asks_redis(session, redis_log)


def test_pending_changes(warm: Sessions, redis_log: RedisLog, cache: Cache) -> None:
    """With changes not flushed yet, the read is the database's, which flushes them first."""
    with warm() as session:
        session.add(Author(id=5, name="x"))
        assert not asks_redis(session, redis_log)
        assert reason(cache) == "unflushed changes"


def test_pending_delete(warm: Sessions) -> None:
    """An object that the session will delete is not found again."""
    with warm() as session:
        author = session.get(Author, 1)
        session.delete(author)
        session.flush()
        assert session.get(Author, 1) is None


# --- snapshots


def serves(cache: Cache, engine: Engine, redis_log: RedisLog, **options: Any) -> bool:
    """Whether a session on this engine asks the cache and, on a miss, publishes."""
    factory = sessionmaker(engine, **options)
    cache.attach(factory)
    asked = False
    for ident in (1, 99):
        redis_log.clear()
        with factory() as session:
            session.get(Book, ident)
        asked = asked or bool(set(redis_log.names()) & {"mget", "publish"})
    cache.detach(factory)
    return asked


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "REPEATABLE_READ"])
def test_level_of_the_engine(
    warm: Sessions, cache: Cache, database_url: str, redis_log: RedisLog, level: str
) -> None:
    """A snapshot that may be old is neither mixed with the cache nor stored in it."""
    engine = create_engine(database_url, isolation_level=level)
    assert not serves(cache, engine, redis_log)
    cache.detach(engine)
    engine.dispose()


def test_level_of_an_option_engine(
    warm: Sessions, cache: Cache, library: Engine, redis_log: RedisLog
) -> None:
    """An engine's execution option counts as its setting does."""
    level = library.execution_options(isolation_level="SERIALIZABLE")
    assert not serves(cache, level, redis_log)
    assert serves(cache, library, redis_log)


def test_level_of_a_connection(warm: Sessions, redis_log: RedisLog, cache: Cache) -> None:
    """A session whose connection was given a level keeps to it."""
    with warm() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert not asks_redis(session, redis_log)
        assert reason(cache) == "isolation level"


def test_level_of_the_server(
    warm: Sessions, cache: Cache, database_url: str, redis_log: RedisLog
) -> None:
    """A server's own default level counts."""
    options = "-c default_transaction_isolation=serializable"
    engine = create_engine(database_url, connect_args={"options": options})
    assert not serves(cache, engine, redis_log)
    cache.detach(engine)
    engine.dispose()


TEXTS = [
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET LOCAL ROLE postgres",
    "SET LOCAL TimeZone = 'UTC'",
    "SELECT set_config('TimeZone', 'UTC', true)",
]


@pytest.mark.parametrize("sql", TEXTS)
def test_level_by_text(warm: Sessions, redis_log: RedisLog, sql: str) -> None:
    """After SET and SQL that is no known read, the transaction reads the database."""
    with warm() as session:
        session.execute(text(sql))
        assert not asks_redis(session, redis_log)


def test_set_outlives_its_transaction(
    warm: Sessions, library: Engine, redis_log: RedisLog, cache: Cache
) -> None:
    """A SET that stays on the connection keeps the cache out of its next transactions."""
    with library.connect() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        connection.commit()
        with warm(bind=connection) as session:
            assert not asks_redis(session, redis_log)


def test_known_reads_change_nothing(warm: Sessions, redis_log: RedisLog) -> None:
    """A text that is a read, and statements of the ORM, leave the cache in use."""
    with warm() as session:
        session.execute(text("select 1"))
        session.scalars(select(Author)).all()
        session.execute(text("savepoint a"))
        assert asks_redis(session, redis_log)


# --- replicas


def test_replica_by_hand(
    warm: Sessions, cache: Cache, database_url: str, redis_log: RedisLog
) -> None:
    """What is read on an engine attached with publish=False is never stored, nor mixed."""
    engine = create_engine(database_url)
    cache.attach(engine, publish=False)
    assert not serves(cache, engine, redis_log)
    cache.detach(engine)
    engine.dispose()


def test_replica_by_its_own_word(
    warm: Sessions, cache: Cache, database_url: str, redis_log: RedisLog
) -> None:
    """A server in recovery is a replica, whatever it was attached as."""
    admin = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        # What the server would say in recovery, found before its own function.
        connection.execute(text("create schema standby"))
        connection.execute(
            text(
                "create function standby.pg_is_in_recovery() returns bool"
                " language sql as 'select true'"
            )
        )
    admin.dispose()
    path = "-c search_path=standby,pg_catalog,public"
    engine = create_engine(database_url, connect_args={"options": path})
    assert not serves(cache, engine, redis_log)
    # Not for its search path, which alone would be a reason too.
    assert reason(cache) == "replica"
    cache.detach(engine)
    engine.dispose()


def test_replica_session_does_not_fill(
    stocked: Sessions, cache: Cache, database_url: str, redis_log: RedisLog
) -> None:
    """A session routed to a replica for its reads fills nothing from there."""
    replica = create_engine(database_url)
    cache.attach(replica, publish=False)

    class Routed(Session):
        def get_bind(self, *arguments: Any, **options: Any) -> Any:
            return replica

    factory = sessionmaker(class_=Routed)
    cache.attach(factory)
    with factory() as session:
        session.connection()
        assert session.get(Book, 1) is not None
    assert redis_log == []
    cache.detach(replica)
    replica.dispose()


def test_balanced_session_does_not_fill(
    stocked: Sessions, cache: Cache, library: Engine, database_url: str, redis_log: RedisLog
) -> None:
    """A read that is routed to a replica only when it is loaded is not published."""
    replica = create_engine(database_url)
    cache.attach(replica, publish=False)
    turns = iter([library, replica])

    class Balanced(Session):
        def get_bind(self, *arguments: Any, **options: Any) -> Any:
            return next(turns)

    factory = sessionmaker(class_=Balanced)
    cache.attach(factory)
    with factory() as session:
        assert session.get(Book, 1) is not None
    assert "acquire" in redis_log.names()
    assert "publish" not in redis_log.names()
    cache.detach(replica)
    replica.dispose()


# --- what the statement or the session asks for


def test_foreign_listener(stocked: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """A session whose own do_orm_execute listener may filter rows reads the database."""

    @event.listens_for(stocked, "do_orm_execute")
    def hide(state: Any) -> None:
        criteria = with_loader_criteria(Book, Book.title != "one")
        state.statement = state.statement.options(criteria)

    with stocked() as session:
        assert session.get(Book, 1) is None
    assert redis_log == []
    assert reason(cache) == "own do_orm_execute listener"


def test_begin_as_text(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A BEGIN as text under AUTOCOMMIT takes the server's own level, which may keep a snapshot."""
    options = {"options": r"-c default_transaction_isolation=repeatable\ read"}
    engine = create_engine(library.url, isolation_level="AUTOCOMMIT", connect_args=options)
    factory = sessionmaker(engine)
    cache.attach(factory)
    with factory() as session:
        session.execute(text("begin"))
        session.get(Book, 1)
        session.execute(text("rollback"))
    assert "publish" not in redis_log.names()
    assert reason(cache) == "isolation level"
    cache.detach(factory)
    cache.detach(engine)
    engine.dispose()


def test_listener_of_begin(stocked: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """A session that prepares its transactions (SET LOCAL) has begun one before it reads."""
    event.listen(stocked, "after_begin", lambda session, transaction, connection: None)
    with stocked() as session:
        assert session.get(Book, 1) is not None
    assert redis_log == []
    assert reason(cache) == "own after_begin listener"


def test_foreign_listener_of_before(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """The same for a listener that was there before the factory was attached."""
    factory = sessionmaker(library)
    event.listen(factory, "do_orm_execute", lambda state: None)
    cache.attach(factory)
    with factory() as session:
        session.get(Book, 1)
    assert redis_log == []


def test_foreign_listener_of_a_session(warm: Sessions, redis_log: RedisLog) -> None:
    """The same for a listener on one session."""
    with warm() as session:
        event.listen(session, "do_orm_execute", lambda state: None)
        assert not asks_redis(session, redis_log)


def test_criteria_hold_for_lazy_loads(warm: Sessions) -> None:
    """Criteria of the statement that loaded a book filter its lazy author too."""
    criteria = with_loader_criteria(Author, Author.name != "Kim")
    with warm() as session:
        book = session.scalars(select(Book).options(criteria).where(Book.id == 1)).one()
        assert book.author is None


@contextmanager
def translated(engine: Engine, sessions: Sessions) -> Iterator[dict[str | None, str]]:
    """Another schema with a table of books of its own; this schema's book is cached."""
    with engine.begin() as connection:
        connection.execute(text("create schema other"))
        connection.execute(text("create table other.books (like public.books)"))
        connection.execute(text("insert into other.books (id, title) values (1, 'other')"))
    with sessions() as session:
        session.get(Book, 1)
    yield {None: "other"}


def test_schema_translated_engine(
    warm: Sessions, cache: Cache, library: Engine, redis_log: RedisLog
) -> None:
    """An engine that reads another schema is not answered from this one's entries."""
    with translated(library, warm) as schemas:
        factory = sessionmaker(library.execution_options(schema_translate_map=schemas))
        cache.attach(factory)
        with factory() as session:
            assert session.get_one(Book, 1).title == "other"


def test_schema_translated_connection(warm: Sessions, library: Engine) -> None:
    """A connection that reads another schema is not answered from this one's entries."""
    with translated(library, warm) as schemas, warm() as session:
        session.connection(execution_options={"schema_translate_map": schemas})
        assert session.get_one(Book, 1).title == "other"


def test_schema_translated_execution(warm: Sessions, library: Engine) -> None:
    """A statement executed on another schema is not answered from this one's entries."""
    with translated(library, warm) as schemas, warm() as session:
        options = {"schema_translate_map": schemas}
        found = session.scalars(Book.by(id=1), execution_options=options).one()
        assert found.title == "other"


def test_schema_translated_session(warm: Sessions, library: Engine) -> None:
    """A session whose options name another schema (SQLAlchemy 2.1) is not served."""
    if sqlalchemy.__version__.startswith("2.0."):
        pytest.skip("sessions have no execution options of their own before SQLAlchemy 2.1")
    with translated(library, warm) as schemas:
        options: dict[str, Any] = {"execution_options": {"schema_translate_map": schemas}}
        with warm(**options) as session:
            assert session.get_one(Book, 1).title == "other"


def test_eager_relationships(stocked: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """A class with eager relationships is read with them, by SQLAlchemy."""
    with stocked() as session:
        session.add(Desk(id=1, author_id=1))
        session.commit()
        session.expunge_all()
        redis_log.clear()
        desk = session.get(Desk, 1)
        assert desk is not None
        assert "author" in desk.__dict__
    assert redis_log == []
    assert reason(cache) == "eager relationships"


def test_eager_option(warm: Sessions) -> None:
    """An eager option on a cached read loads what it says."""
    with warm() as session:
        book = session.scalars(Book.by(id=1).options(selectinload(Book.author))).one()
        assert "author" in book.__dict__


def test_block(warm: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """In a bypass block reads go to the database; writes are followed all the same."""
    with cache.bypass(), warm() as session:
        assert not asks_redis(session, redis_log)
        session.get_one(Book, 1).title = "new"
        session.commit()
    with warm() as session:
        assert session.get_one(Book, 1).title == "new"


def test_kill_switch(warm: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """A disabled Cache serves nothing."""
    cache.enabled = False
    with warm() as session:
        assert not asks_redis(session, redis_log)
    cache.enabled = True
    with warm() as session:
        assert asks_redis(session, redis_log)


def test_engine_not_followed(warm: Sessions, cache: Cache, library: Engine) -> None:
    """A detached engine's sessions read the database until they bring it along again."""
    cache.detach(library)
    with warm() as session:
        session.get(Book, 1)
    assert reason(cache) == "engine not followed"


async def test_outside_of_a_greenlet(async_sessions: async_sessionmaker[AsyncSession]) -> None:
    """Where SQL would raise MissingGreenlet, a cached row raises it too."""
    async with async_sessions() as session:
        await session.get(Book, 1)
        await session.get(Author, 1)
    async with async_sessions() as session:
        book = await session.get(Book, 1)
        assert book is not None
        with pytest.raises((MissingGreenlet, StatementError), match="greenlet_spawn"):
            _ = book.author
        await session.rollback()
        assert (await book.awaitable_attrs.author).name == "Kim"


# --- databases and tables of another kind


def test_snapshot_database(tmp_path: Path, redis_url: str, redis_log: RedisLog) -> None:
    """On SQLite an open transaction may be an old snapshot; a new one fills and is served."""
    engine = create_engine(f"sqlite:///{tmp_path}/library.db")
    Base.metadata.create_all(engine)
    with patient_cache(redis_url, regions=REGIONS) as cache:
        factory = sessionmaker(engine)
        cache.attach(factory)
        with factory() as session:
            session.add(Book(id=1, title="one"))
            session.commit()
        for expected in (True, True):
            with factory() as session:
                assert asks_redis(session, redis_log) is expected
        with factory() as session:
            session.execute(text("select 1"))
            assert not asks_redis(session, redis_log)
        assert cache.stats().hits.total() == 1
    engine.dispose()


class Told(Observer):
    """Keeps the errors it is told of."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, what: str, error: BaseException) -> None:
        self.errors.append(f"{what}: {error}")


KINDS = {
    "row-level security": ["alter table places enable row level security"],
    "view": [
        "alter table places rename to kept",
        "create view places as select * from kept",
    ],
    "materialized view": [
        "alter table places rename to kept",
        "create materialized view places as select * from kept",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_plain_table(
    stocked: Sessions, library: Engine, redis_url: str, redis_log: RedisLog, kind: str
) -> None:
    """Rows of views, and rows that depend on who asks, are not served; that is told once."""
    told = Told()
    with patient_cache(redis_url, regions=REGIONS, observers=[told]) as cache:
        engine = create_engine(library.url)
        with engine.begin() as connection:
            for sql in KINDS[kind]:
                connection.execute(text(sql))
        factory = sessionmaker(engine)
        cache.attach(factory)
        redis_log.clear()
        for _ in range(2):
            with factory() as session:
                assert session.scalars(Place.by(code="p")).one().title == "here"
        assert redis_log == []
        assert cache.stats().bypasses["desk", kind] == 2
        (error,) = told.errors
        assert "Place.__cache__: places:" in error
        assert "take the key out of the policy" in error
        cache.detach(engine)
        engine.dispose()


def test_triggered_table_is_not_written_through(
    library: Engine, cache: Cache, redis_client: Any
) -> None:
    """A table whose trigger may change the row is invalidated instead of written through."""
    with library.begin() as connection:
        connection.execute(
            text(
                "create function shout() returns trigger language plpgsql as $$"
                " begin new.owner = upper(new.owner); return new; end $$"
            )
        )
        connection.execute(
            text(
                "create trigger shout before insert or update on tokens"
                " for each row execute function shout()"
            )
        )
    library.dispose()
    factory = sessionmaker(library)
    cache.attach(factory)
    with factory() as session:
        ends = datetime.now(UTC) + timedelta(hours=1)
        session.add(Token(id="t", owner="kim", expires_at=ends))
        session.commit()
    redis_client.select(2)
    assert redis_client.get("token:t") is None
    with factory() as session:
        assert session.get_one(Token, "t").owner == "KIM"
    cache.detach(library)
