"""A machine that writes in every way the library follows, and reads after every step.

What it claims: at every step a read from the cache equals a read from the database, and a session
sees its own writes. Nothing runs side by side here, so there is no "older than promised" to allow
for: any difference is a fault. The staged races are in the other files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis
from sqlalchemy import (
    Engine,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from examples.servers import PrivateRedis
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import REGIONS, Animal, Author, Base, Book, Cat, Dog, Place, Token

T = TypeVar("T")
Act = Callable[[Session], T]

IDS = (1, 2, 3)
CODES = ("a", "b", "c")
ids, codes = st.sampled_from(IDS), st.sampled_from(CODES)
titles = st.sampled_from(("x", "y", "한글"))
TABLES = "authors, books, places, tokens, animals, dogs"


class Colour(Protocol):
    """Runs an act in a session that the cache serves, from a thread or from a greenlet."""

    engine: Engine

    def run(self, act: Act[T], *, ending: str = "commit") -> T: ...

    def close(self) -> None: ...


class Threads:
    """Sessions of a sessionmaker."""

    def __init__(self, url: str, cache: Cache) -> None:
        self.engine = create_engine(url)
        self.sessions = sessionmaker(self.engine)
        cache.attach(self.sessions)
        self._cache = cache

    def run(self, act: Act[T], *, ending: str = "commit") -> T:
        with self.sessions() as session:
            return _ended(session, act, ending)

    def close(self) -> None:
        self._cache.detach(self.sessions)
        self._cache.detach(self.engine)
        self.engine.dispose()
        self._cache.close()


class Greenlets:
    """Sessions of an async_sessionmaker, on a loop of their own."""

    def __init__(self, url: str, cache: Cache) -> None:
        self._loop = asyncio.new_event_loop()
        self._async_engine: AsyncEngine = create_async_engine(url)
        self.engine = self._async_engine.sync_engine
        self.sessions = async_sessionmaker(self._async_engine)
        cache.attach(self.sessions)
        self._cache = cache

    def run(self, act: Act[T], *, ending: str = "commit") -> T:
        async def inside() -> T:
            async with self.sessions() as session:
                return await session.run_sync(lambda sync: _ended(sync, act, ending))

        return self._loop.run_until_complete(inside())

    def close(self) -> None:
        async def inside() -> None:
            await self._async_engine.dispose()
            await self._cache.aclose()

        self._cache.detach(self.sessions)
        self._cache.detach(self._async_engine)
        self._loop.run_until_complete(inside())
        self._loop.close()


def _ended(session: Session, act: Act[T], ending: str) -> T:
    if ending == "two-phase":
        session.twophase = True
    found = act(session)
    if ending == "rollback":
        session.rollback()
    else:
        session.commit()
    return found


class LibraryMachine(RuleBasedStateMachine):
    """Writers, readers, evictions and restarts over one small library."""

    # Set by the test before it runs the machine.
    database_url = ""
    redis: PrivateRedis
    colour: Callable[[str, Cache], Any] = Threads

    def __init__(self) -> None:
        super().__init__()
        self.plain = create_engine(self.database_url)
        with Redis.from_url(self.redis.url) as client:
            client.flushall()
        self.cache = patient_cache(self.redis.url, regions=REGIONS)
        self.here: Colour = self.colour(self.database_url, self.cache)
        self.follow_everything()

    def teardown(self) -> None:
        self.every_read_equals_the_database()
        self.here.close()
        self.plain.dispose()

    def follow_everything(self) -> None:
        """The first connection is made, so that reads are served from now on."""
        self.here.run(lambda session: session.execute(select(1)))

    @initialize()
    def an_empty_library(self) -> None:
        Base.metadata.create_all(self.plain)
        self.here.run(lambda session: session.execute(text(f"truncate {TABLES} cascade")))
        self.here.run(_furnish)

    # --- writes

    @rule(id_=ids, title=titles, ending=st.sampled_from(("commit", "rollback", "two-phase")))
    def change_a_book(self, id_: int, title: str, ending: str) -> None:
        def act(session: Session) -> None:
            book = session.get(Book, id_)
            if book is not None:
                book.title = title
                session.flush()
                assert _title_of(session, id_) == title

        self.here.run(act, ending=ending)

    @rule(id_=ids, code=codes, ending=st.sampled_from(("commit", "rollback")))
    def move_a_place(self, id_: int, code: str, ending: str) -> None:
        def act(session: Session) -> None:
            taken = session.scalar(select(Place.id).where(Place.code == code))
            place = session.get(Place, id_)
            if place is not None and taken is None:
                place.code = code

        self.here.run(act, ending=ending)

    @rule(id_=ids, code=codes)
    def a_place_moved_behind_our_back(self, id_: int, code: str) -> None:
        """The session remembers an old code when it writes another column."""

        def act(session: Session) -> None:
            place = session.get(Place, id_)
            if place is None:
                return
            if isinstance(self.here, Threads):
                self.here.run(lambda other: _move(other, id_, code))
            place.title = place.title + "!" if len(place.title) < 20 else ""

        self.here.run(act)

    @rule(id_=ids, title=titles)
    def add_or_replace_a_book(self, id_: int, title: str) -> None:
        def act(session: Session) -> None:
            statement = upsert(Book).values(id=id_, title=title)
            session.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_={"title": title})
            )

        self.here.run(act)

    @rule(title=titles, to=titles)
    def change_books_in_bulk(self, title: str, to: str) -> None:
        self.here.run(
            lambda session: session.execute(
                update(Book).where(Book.title == title).values(title=to)
            )
        )

    @rule(id_=ids)
    def delete_an_author_and_cascade(self, id_: int) -> None:
        self.here.run(lambda session: session.execute(delete(Author).where(Author.id == id_)))

    @rule(id_=ids)
    def delete_a_book(self, id_: int) -> None:
        def act(session: Session) -> None:
            book = session.get(Book, id_)
            if book is not None:
                session.delete(book)
                session.flush()
                assert session.get(Book, id_) is None

        self.here.run(act)

    @rule(id_=ids, author=ids)
    def add_an_author_with_a_book(self, id_: int, author: int) -> None:
        def act(session: Session) -> None:
            if session.get(Author, author) is None:
                session.add(Author(id=author, name=f"author {author}"))
                session.flush()
            book = session.get(Book, id_)
            if book is None:
                session.add(Book(id=id_, title="new", author_id=author))
            else:
                book.author_id = author

        self.here.run(act)

    @rule(id_=ids, title=titles)
    def a_savepoint_rolled_back(self, id_: int, title: str) -> None:
        def act(session: Session) -> None:
            with contextlib.suppress(_Undo), session.begin_nested():
                session.execute(update(Book).where(Book.id == id_).values(title="undone"))
                raise _Undo
            with session.begin_nested():
                session.execute(update(Book).where(Book.id == id_).values(title=title))
            read = _title_of(session, id_)
            assert read is None or read == title

        self.here.run(act)

    @rule(id_=ids, title=titles)
    def core_on_the_engine(self, id_: int, title: str) -> None:
        def act(session: Session) -> None:
            table = Base.metadata.tables["books"]
            changed = update(table).where(table.c.id == id_).values(title=func.upper(title))
            session.connection().execute(changed)

        self.here.run(act)

    @rule(id_=ids, title=titles)
    def sql_text(self, id_: int, title: str) -> None:
        def act(session: Session) -> None:
            session.execute(
                text(
                    "with x as (update books set title = :title where id = :id returning id)"
                    " select * from x"
                ),
                {"title": title, "id": id_},
            )

        self.here.run(act)

    @rule(id_=ids, owner=titles)
    def write_a_token_through(self, id_: int, owner: str) -> None:
        def act(session: Session) -> None:
            token = session.get(Token, str(id_))
            ends = datetime.now(UTC) + timedelta(hours=1)
            if token is None:
                session.add(Token(id=str(id_), owner=owner, expires_at=ends))
            else:
                token.owner = owner

        self.here.run(act)

    @rule(id_=ids, lives=st.integers(0, 9))
    def change_an_animal(self, id_: int, lives: int) -> None:
        def act(session: Session) -> None:
            animal = session.get(Animal, id_)
            match animal:
                case Dog():
                    animal.tricks = lives
                case Cat():
                    animal.lives = lives
                case _:
                    pass

        self.here.run(act)

    @rule()
    def truncate_places(self) -> None:
        self.here.run(lambda session: session.execute(text("truncate places")))

    @rule(id_=ids, code=codes)
    def bring_a_place_back(self, id_: int, code: str) -> None:
        def act(session: Session) -> None:
            statement = upsert(Place).values(id=id_, code=code, title="back")
            session.execute(statement.on_conflict_do_nothing())

        self.here.run(act)

    @rule(rows=st.lists(ids, unique=True, min_size=1))
    def insert_many_books(self, rows: list[int]) -> None:
        def act(session: Session) -> None:
            session.execute(delete(Book).where(Book.id.in_(rows)))
            session.execute(insert(Book), [{"id": id_, "title": "many"} for id_ in rows])

        self.here.run(act)

    # --- what happens to Redis

    @rule(data=st.data())
    def evict_any_key(self, data: st.DataObject) -> None:
        for db in (1, 2):
            with Redis.from_url(self.redis.url, db=db) as client:
                keys = sorted(client.keys())
                if keys:
                    client.delete(data.draw(st.sampled_from(keys)))

    @rule()
    def damage_an_entry(self) -> None:
        with Redis.from_url(self.redis.url, db=1) as client:
            for key in client.keys("book:*"):
                client.setrange(key, 60, b"\xff\xff")

    @rule()
    def save_redis(self) -> None:
        with Redis.from_url(self.redis.url) as client:
            client.save()
        self.saved = True

    saved = False

    @precondition(lambda self: self.saved)
    @rule()
    def restart_redis_from_the_old_file(self) -> None:
        self.redis.kill()
        self.redis.restart()

    # --- reads

    @invariant()
    def every_read_equals_the_database(self) -> None:
        with Session(self.plain) as session:
            wanted = _everything(session, served=False)
        for _ in range(2):  # the first may fill what the second is served
            assert self.here.run(lambda session: _everything(session, served=True)) == wanted


class _Undo(Exception):
    pass


def _furnish(session: Session) -> None:
    session.add_all([Author(id=id_, name=f"author {id_}") for id_ in IDS])
    session.flush()
    session.add_all([Book(id=id_, title="x", author_id=id_) for id_ in IDS])
    session.add_all(
        [Place(id=id_, code=code, title="") for id_, code in zip(IDS, CODES, strict=True)]
    )
    session.add_all(
        [Dog(id=1, name="rex"), Cat(id=2, name="tom", lives=7), Animal(id=3, name="it")]
    )


def _move(session: Session, id_: int, code: str) -> None:
    if session.scalar(select(Place.id).where(Place.code == code)) is None:
        session.execute(update(Place).where(Place.id == id_).values(code=code))


def _title_of(session: Session, id_: int) -> str | None:
    return session.scalar(select(Book.title).where(Book.id == id_))


def _everything(session: Session, *, served: bool) -> dict[Any, Any]:
    """Every row by every key, in the way that the cache serves, or plainly."""
    found: dict[Any, Any] = {}
    for id_ in IDS:
        for class_, key in ((Author, id_), (Book, id_), (Token, str(id_)), (Animal, id_)):
            found[class_, key] = _seen(session.get(class_, key))
    for code in CODES:
        found[Place, code] = _seen(session.scalar(Place.by(code=code)))
    if not served:
        session.expunge_all()
    return found


def _seen(row: Any) -> Any:
    if row is None:
        return None
    columns = type(row).__mapper__.column_attrs
    return {column.key: getattr(row, column.key) for column in columns}
