"""What comes out of the cache is a live object: SQLAlchemy cannot tell it from one it loaded."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from cachedorm.orm.mapping import hydration
from tests.fixtures.logs import SqlLog
from tests.support.orm.library import Animal, Author, Book, Cat, Dog, Page, Point

Sessions = sessionmaker[Session]


@pytest.fixture(params=["quick", "merged"])
def warm(
    stocked: Sessions, sql_log: SqlLog, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Sessions:  # fmt: skip
    """The served factory, rows cached; by the quick way, and by the way that is left without it."""
    if request.param == "merged":
        monkeypatch.setattr(hydration, "quick_way_works", lambda: False)
    with stocked() as session:
        session.add(Dog(id=1, name="Rex", tricks=3))
        session.add(Cat(id=2, name="Tom", lives=9))
        session.add(Page(id=1, x=3, y=4, body="long", mark="m"))
        session.commit()
    rows: list[tuple[type[Any], int]] = [(Animal, 1), (Animal, 2), (Page, 1), (Author, 1)]
    for _ in range(2):
        with stocked() as session:
            session.get(Book, 1)
            for class_, ident in rows:
                session.get(class_, ident)
    sql_log.clear()
    return stocked


def test_self_test() -> None:
    """The quick way works on the SQLAlchemy that these tests run on."""
    assert hydration.quick_way_works()


def test_live(warm: Sessions, sql_log: SqlLog) -> None:
    """Persistent, clean, in the identity map; nothing loaded but what was stored."""
    with warm() as session:
        book = session.get_one(Book, 1)
        state = inspect(book)
        assert state.persistent
        assert not state.modified
        assert state.session is session
        assert state.identity == (1,)
        assert book in session
        assert list(session.identity_map.values()) == [book]
        assert not session.dirty
        assert state.unloaded == {"author", "secret"}
    assert inspect(book).detached
    assert sql_log == []


def test_change_is_written(warm: Sessions, sql_log: SqlLog) -> None:
    """A change is tracked against the cached value, and only the change is written."""
    with warm() as session:
        book = session.get_one(Book, 1)
        book.title = "new"
        assert book in session.dirty
        assert inspect(book).attrs.title.history.deleted == ["one"]
        session.commit()
    (written,) = [sql for sql in sql_log.statements if sql.startswith("UPDATE")]
    assert "SET title=" in written
    assert "mood" not in written


def test_delete(warm: Sessions) -> None:
    """A cached object can be deleted."""
    with warm() as session:
        session.delete(session.get_one(Book, 1))
        session.commit()
    with warm() as session:
        assert session.get(Book, 1) is None


def test_rollback_expires(warm: Sessions) -> None:
    """A rollback undoes changes to a cached object."""
    with warm() as session:
        book = session.get_one(Book, 1)
        book.title = "new"
        session.flush()
        session.rollback()
        assert book.title == "one"


def test_weakly_held(warm: Sessions) -> None:
    """The session holds a cached object no longer than its user does."""
    with warm() as session:
        book = session.get(Book, 1)
        seen = weakref.ref(book)
        del book
        gc.collect()
        assert seen() is None
        assert not list(session.identity_map.values())
        assert session.get_one(Book, 1).title == "one"


def test_own_object_wins(warm: Sessions) -> None:
    """A row that the session has already is its object, unchanged, whatever Redis says."""
    with warm() as session:
        book = session.get_one(Book, 1)
        inspect(book).dict["title"] = "as loaded"
        assert session.scalars(Book.by(id=1)).one() is book
        assert book.title == "as loaded"


def test_own_expired_object_is_filled(warm: Sessions, sql_log: SqlLog) -> None:
    """Expired attributes of the session's own object are filled, the others stay."""
    with warm() as session:
        book = session.get_one(Book, 1)
        inspect(book).dict["mood"] = None
        session.expire(book, ["title"])
        assert session.scalars(Book.by(id=1)).one() is book
        assert "title" in book.__dict__
        assert book.mood is None
    assert sql_log == []


def test_subclasses(warm: Sessions, sql_log: SqlLog) -> None:
    """A row comes as its own class, with the columns of all its tables."""
    with warm() as session:
        dog, cat = session.get(Animal, 1), session.get(Animal, 2)
        assert isinstance(dog, Dog)
        assert isinstance(cat, Cat)
        assert (dog.name, dog.tricks, cat.lives) == ("Rex", 3, 9)
        assert session.get(Dog, 1) is dog
    assert sql_log == []


def test_subclass_column_is_followed(warm: Sessions) -> None:
    """A write to the subclass's table alone is followed."""
    with warm() as session:
        session.get_one(Dog, 1).tricks = 4
        session.commit()
    with warm() as session:
        assert session.get_one(Dog, 1).tricks == 4


def test_mutable_values(warm: Sessions) -> None:
    """A mutable value is each session's own, and its changes are tracked."""
    with warm() as one, warm() as other:
        book, same = one.get_one(Book, 1), other.get_one(Book, 1)
        assert book.notes is not None
        assert same.notes is not None
        book.notes["a"].append(2)
        assert same.notes == {"a": [1]}
        book.notes["b"] = 1
        assert book in one.dirty
        one.commit()
    with warm() as session:
        assert session.get_one(Book, 1).notes == {"a": [1, 2], "b": 1}


def test_composite(warm: Sessions) -> None:
    """A composite is there, and its change is written."""
    with warm() as session:
        page = session.get_one(Page, 1)
        assert page.point == Point(3, 4)
        page.point = Point(5, 6)
        session.commit()
    with warm() as session:
        assert session.get_one(Page, 1).point == Point(5, 6)


def test_events(warm: Sessions) -> None:
    """The reconstructor, ``load``, ``refresh`` and ``loaded_as_persistent`` are told."""
    told: list[str] = []

    def on(target: Any, name: str) -> Callable[..., None]:
        def tell(*_: Any) -> None:
            told.append(name)

        event.listen(target, name, tell)
        return tell

    listeners = {name: on(Page, name) for name in ("load", "refresh")}
    try:
        with warm() as session:
            on(session, "loaded_as_persistent")
            page = session.get_one(Page, 1)
            assert page.rebuilt
            assert told == ["load", "loaded_as_persistent"]
            session.expire(page)
            assert page.x == 3
            assert told[2:] == ["refresh"]
    finally:
        for name, listener in listeners.items():
            event.remove(Page, name, listener)


def test_version_counter(warm: Sessions, plain: Sessions) -> None:
    """A version counter from the cache guards an update, as one from the database does."""
    with warm() as session:
        page = session.get_one(Page, 1)
        assert page.version == 1
        with plain() as other:
            other.get_one(Page, 1).x = 9
            other.commit()
        page.x = 8
        with pytest.raises(StaleDataError):
            session.commit()


def test_pickle(warm: Sessions) -> None:
    """A cached object survives pickling, and can be merged into a session."""
    with warm() as session:
        book = session.get_one(Book, 1)
        session.expire(book)
        assert book.title == "one"
        copied = pickle.loads(pickle.dumps(book))
    assert (copied.title, copied.notes) == ("one", {"a": [1]})
    with warm() as session:
        again = session.merge(copied, load=False)
        assert again.secret == "s"


def test_deferred_columns(warm: Sessions, sql_log: SqlLog) -> None:
    """A deferred column is not stored, and is loaded alone when it is touched."""
    with warm() as session:
        page = session.get_one(Page, 1)
        assert "body" not in page.__dict__
        assert sql_log == []
        assert page.body == "long"
        assert "mark" not in page.__dict__
        assert page.mark == "m"


def test_left_out_column(warm: Sessions, sql_log: SqlLog, redis_client: Any) -> None:
    """An excluded column is not in Redis, and is loaded from the database when it is touched."""
    redis_client.select(1)
    assert b"one" in redis_client.get("book:1")
    assert b"secret" not in redis_client.get("book:1")
    with warm() as session:
        book = session.get_one(Book, 1)
        assert sql_log == []
        assert book.secret == "s"
        assert len(sql_log) == 1


def test_left_out_column_can_be_set(warm: Sessions) -> None:
    """An excluded column that was never loaded can be changed."""
    with warm() as session:
        session.get_one(Book, 1).secret = "t"
        session.commit()
    with warm() as session:
        assert session.get_one(Book, 1).secret == "t"


async def test_left_out_column_in_async(
    async_sessions: async_sessionmaker[AsyncSession],
) -> None:
    """Touched in async it behaves as a deferred column: MissingGreenlet, or awaitable_attrs."""
    for _ in range(2):
        async with async_sessions() as session:
            book = await session.get_one(Book, 1)
            with pytest.raises((MissingGreenlet, StatementError), match="greenlet_spawn"):
                _ = book.secret
            await session.rollback()
        async with async_sessions() as session:
            book = await session.get_one(Book, 1)
            assert await book.awaitable_attrs.secret == "s"


def test_older_payload(warm: Sessions, redis_client: Any) -> None:
    """An entry that another version of the class wrote is a miss, not a half-filled object."""
    redis_client.select(1)
    entry = redis_client.get("book:1")
    redis_client.set("book:1", entry[:2] + b"\0" * 8 + entry[10:], px=60_000)
    with warm() as session:
        assert session.get_one(Book, 1).title == "one"


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_truncated_payload(warm: Sessions, redis_client: Any, cut: int) -> None:
    """Bytes that make no row are a miss."""
    redis_client.select(1)
    entry = redis_client.get("book:1")
    redis_client.set("book:1", entry[:-cut], px=60_000)
    with warm() as session:
        assert session.get_one(Book, 1).title == "one"


def test_unknown_discriminator(warm: Sessions) -> None:
    """A row of a class that is not mapped here raises SQLAlchemy's error, not ours."""
    with warm() as session:
        session.execute(text("insert into animals (id, kind, name) values (9, 'bird', 'x')"))
        session.commit()
    for _ in range(2):
        with warm() as session, pytest.raises(AssertionError, match="No such polymorphic_identity"):
            session.get(Animal, 9)
