"""Many rows by key: one read of the cache, one SELECT for the rest, nothing stale, order kept."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import CHAR, Engine, String, create_engine, delete, event, select, text, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cache, Cached, CachePolicy
from cachedorm.errors import ArgumentError
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import (
    REGIONS,
    SHELF,
    Animal,
    Author,
    Base,
    Book,
    Cat,
    Diary,
    Dog,
    Place,
)


class Seat(Cached, Base):
    """A key of two columns, in another order than the table's."""

    __tablename__ = "many_seats"
    __cache__ = CachePolicy(SHELF, key="seat:{number}:{hall}")

    hall: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


class Word(Base):
    """Not cached; its key is padded with blanks, and compared without regard to them."""

    __tablename__ = "many_words"

    word: Mapped[str] = mapped_column(CHAR(8), primary_key=True)


@pytest.fixture
def filled(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """Ten authors, none of them in the cache."""
    with sessions() as session:
        session.add_all(Author(id=number, name=f"author {number}") for number in range(10))
        session.commit()
    return sessions


def names(found: list[Author | None]) -> list[str | None]:
    return [None if each is None else each.name for each in found]


def test_order_and_gaps_are_kept(filled: sessionmaker[Session], cache: Cache) -> None:
    """An object for every key, in the keys' order, also where keys repeat or are nobody's."""
    for _ in range(2):
        with filled() as session:
            found = cache.get_many(session, Author, [3, 99, 1, 3, -1])

            assert names(found) == ["author 3", None, "author 1", "author 3", None]
            assert found[0] is found[3]
            assert all(each in session for each in found if each is not None)


def test_hits_are_one_command(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """However many keys: one MGET, no SQL, no connection."""
    with filled() as session:
        cache.get_many(session, Author, range(12))
    redis_log.clear()
    sql_log.clear()

    with filled() as session:
        found = cache.get_many(session, Author, range(12))

    assert names(found)[8:] == ["author 8", "author 9", None, None]
    assert redis_log == ["mget"]
    assert (sql_log.statements, sql_log.checkouts) == ([], 0)


def test_misses_are_one_select(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """The rest costs one SELECT, and a pipeline of leases and one of values."""
    with filled() as session:
        cache.get_many(session, Author, [0, 1])
    redis_log.clear()
    sql_log.clear()

    with filled() as session:
        cache.get_many(session, Author, range(5))

    assert redis_log == ["mget", *["acquire"] * 3, *["publish"] * 3]
    assert len(sql_log) == 1
    assert " IN " in sql_log.statements[0]


def test_the_sessions_own_objects_win(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog
) -> None:
    """What the session holds is not asked for; what it has expired is filled."""
    with filled() as session:
        held, expired = session.get_one(Author, 1), session.get_one(Author, 2)
        session.expire(expired)
        redis_log.clear()
        found = cache.get_many(session, Author, [1, 2])

        assert found == [held, expired]
        assert redis_log == ["mget"]
        assert expired.name == "author 2"
        assert not session.dirty


def test_absence_is_remembered_and_ended_by_an_insert(
    filled: sessionmaker[Session], cache: Cache, sql_log: SqlLog
) -> None:
    """A missing row costs one SELECT until it comes to be."""
    with filled() as session:
        cache.get_many(session, Author, [77])
    sql_log.clear()
    with filled() as session:
        assert cache.get_many(session, Author, [77]) == [None]
        assert sql_log == []
    with filled() as session:
        session.add(Author(id=77, name="new"))
        session.commit()
    with filled() as session:
        assert names(cache.get_many(session, Author, [77])) == ["new"]


def test_every_commit_is_followed(filled: sessionmaker[Session], cache: Cache) -> None:
    """Updates, deletes and bulk writes end what was read."""
    with filled() as session:
        cache.get_many(session, Author, range(4))
    with filled() as session:
        session.get_one(Author, 1).name = "renamed"
        session.execute(delete(Author).where(Author.id == 2))
        session.execute(update(Author).where(Author.id > 2).values(name="bulk"))
        session.commit()

    with filled() as session:
        found = cache.get_many(session, Author, range(4))
    assert names(found) == ["author 0", "renamed", None, "bulk"]


def test_a_session_sees_its_own_writes(filled: sessionmaker[Session], cache: Cache) -> None:
    """A transaction that has written reads for itself; what is not flushed is flushed first."""
    with filled() as session:
        cache.get_many(session, Author, range(3))
    with filled() as session:
        session.add(Author(id=50, name="mine"))
        session.flush()
        session.execute(update(Author.__table__).values(name="all"))  # type: ignore[arg-type]
        found = cache.get_many(session, Author, [1, 50])
        assert names(found) == ["all", "all"]
        session.add(Author(id=51, name="not flushed"))
        assert names(cache.get_many(session, Author, [51, 50])) == ["not flushed", "all"]
        session.rollback()
    with filled() as session:
        assert names(cache.get_many(session, Author, [1, 50])) == ["author 1", None]


def test_a_row_read_before_a_commit_is_not_stored(
    filled: sessionmaker[Session], cache: Cache, library: Engine
) -> None:
    """The batch's leases are taken before its SELECT; a commit in between takes its own away."""

    turns = iter([True])

    def overtake(*arguments: object) -> None:
        if not next(turns, False):
            return
        with filled() as other:
            other.get_one(Author, 1).name = "overtaken"
            other.commit()

    with filled() as session:
        session.connection()
        event.listen(library, "after_cursor_execute", overtake)
        found = cache.get_many(session, Author, [0, 1])
        assert names(found) == ["author 0", "author 1"]  # as the database had it
    with filled() as session:
        assert names(cache.get_many(session, Author, [0, 1])) == ["author 0", "overtaken"]


def test_a_failed_select_leaves_no_lease(
    filled: sessionmaker[Session],
    cache: Cache,
    library: Engine,
    redis_log: RedisLog,
    sql_log: SqlLog,
) -> None:
    """Nobody waits for a batch whose holder has failed."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("no")

    event.listen(library, "before_cursor_execute", fail)
    with filled() as session, pytest.raises(RuntimeError, match="no"):
        cache.get_many(session, Author, [0, 1])
    event.remove(library, "before_cursor_execute", fail)

    assert redis_log.names()[-2:] == ["release", "release"] or "eval" in redis_log.names()[-2:]
    with filled() as session:
        redis_log.clear()
        cache.get_many(session, Author, [0, 1])
    assert redis_log.names().count("acquire") == 2
    sql_log.clear()
    with filled() as session:
        assert None not in cache.get_many(session, Author, [1])
    assert sql_log == []  # the second reader had the leases


def test_single_and_many_share_entries(
    filled: sessionmaker[Session], cache: Cache, sql_log: SqlLog
) -> None:
    """What one way has stored, the other serves."""
    with filled() as session:
        cache.get_many(session, Author, [1])
        session.close()
        session.get(Author, 2)
    sql_log.clear()
    with filled() as session:
        assert session.get_one(Author, 1).name == "author 1"
        assert names(cache.get_many(session, Author, [2])) == ["author 2"]
    assert sql_log == []


def test_subclasses_come_as_themselves(
    sessions: sessionmaker[Session], cache: Cache, sql_log: SqlLog
) -> None:
    """Rows name their concrete class; asking for a subclass gives no other."""
    with sessions() as session:
        session.add_all(
            [Animal(id=1, name="a"), Dog(id=2, name="d", tricks=3), Cat(id=3, name="c")]
        )
        session.commit()
    for _ in range(2):
        sql_log.clear()
        with sessions() as session:
            found = cache.get_many(session, Animal, [1, 2, 3])
            assert [type(each) for each in found] == [Animal, Dog, Cat]
            assert isinstance(found[1], Dog)
            assert found[1].tricks == 3
        with sessions() as session:
            assert [type(each) for each in cache.get_many(session, Dog, [1, 2])] == [
                type(None),
                Dog,
            ]
    assert sql_log == []


def test_a_row_of_no_class_is_left_to_the_mapper(
    sessions: sessionmaker[Session], cache: Cache
) -> None:
    """As for a single one: it may know a class that was mapped since, or say what is wrong."""
    with sessions() as session:
        session.add(Animal(id=1, name="a"))
        session.execute(text("insert into animals (id, kind, name) values (2, 'yeti', 'y')"))
        session.commit()
    with sessions() as session, pytest.raises(AssertionError, match="polymorphic_identity"):
        cache.get_many(session, Animal, [1, 2])
    with sessions() as session:
        assert [each and each.name for each in cache.get_many(session, Animal, [1])] == ["a"]


def test_keys_of_several_columns(sessions: sessionmaker[Session], cache: Cache) -> None:
    """Given as tuples in the table's order, or by name."""
    with sessions() as session:
        session.add_all(Seat(hall=hall, number=n) for hall in "AB" for n in (1, 2))
        session.commit()
    for _ in range(2):
        with sessions() as session:
            found = cache.get_many(session, Seat, [("B", 1), {"number": 2, "hall": "A"}, ("C", 1)])
            assert [each and (each.hall, each.number) for each in found] == [
                ("B", 1), ("A", 2), None
            ]  # fmt: skip


def test_two_spellings_of_one_key(sessions: sessionmaker[Session], cache: Cache) -> None:
    """Where the database finds a row by another spelling, absence is not concluded."""
    with sessions() as session:
        session.add(Word(word="paper   "))
        session.commit()
    for _ in range(2):
        with sessions() as session:
            found = cache.get_many(session, Word, ["paper", "paper   ", "glass"])
            assert [each and each.word for each in found] == ["paper   ", "paper   ", None]


def test_what_is_not_cached_by_key_is_read_in_one_select(
    sessions: sessionmaker[Session], cache: Cache, sql_log: SqlLog
) -> None:
    """A natural key in the template, or no policy at all: plain SQL, the same answer."""
    with sessions() as session:
        session.add_all([Place(id=1, code="x"), Place(id=2, code="y"), Diary(id=1, text="t")])
        session.commit()
    sql_log.clear()
    with sessions() as session:
        assert [each and each.code for each in cache.get_many(session, Place, [2, 3, 1])] == [
            "y", None, "x"
        ]  # fmt: skip
        assert cache.get_many(session, Diary, [1])[0] is not None
    assert len(sql_log) == 2


def test_excluded_columns_load_when_touched(sessions: sessionmaker[Session], cache: Cache) -> None:
    """As for one row."""
    with sessions() as session:
        session.add(Book(id=1, title="t", secret="s"))
        session.commit()
    for _ in range(2):
        with sessions() as session:
            (book,) = cache.get_many(session, Book, [1])
            assert book is not None
            assert "secret" not in book.__dict__
            assert book.secret == "s"


def test_more_keys_than_a_batch(
    sessions: sessionmaker[Session], cache: Cache, sql_log: SqlLog, redis_log: RedisLog
) -> None:
    """Batches bound what one command carries."""
    with sessions() as session:
        session.add_all(Author(id=number, name=str(number)) for number in range(1200))
        session.commit()
    with sessions() as session:
        assert names(cache.get_many(session, Author, range(1200))) == [str(n) for n in range(1200)]
    redis_log.clear()
    sql_log.clear()
    with sessions() as session:
        cache.get_many(session, Author, range(1200))
    assert redis_log == ["mget"] * 3
    assert sql_log == []


@pytest.mark.parametrize("key", [(1, 2), (), {"name": 1}])
def test_what_is_no_key(filled: sessionmaker[Session], cache: Cache, key: object) -> None:
    """A key of another shape is an error that says what the key has."""
    with filled() as session, pytest.raises(ArgumentError, match="get_many"):
        cache.get_many(session, Author, [key])


@pytest.mark.parametrize("keys", [1, "12", b"12", None])
def test_what_is_not_many(filled: sessionmaker[Session], cache: Cache, keys: Any) -> None:
    """A single key is not taken for its characters."""
    with filled() as session, pytest.raises(ArgumentError, match="give many keys"):
        cache.get_many(session, Author, keys)


def test_odd_keys(filled: sessionmaker[Session], cache: Cache) -> None:
    """No keys, None, and a key of another type that the database takes for the same."""
    with filled() as session:
        assert cache.get_many(session, Author, []) == []
        assert names(cache.get_many(session, Author, [None, Decimal(1), 2])) == [
            None, "author 1", "author 2"
        ]  # fmt: skip
        with pytest.raises(ArgumentError, match="mapped class"):
            cache.get_many(session, int, [1])


def test_without_redis_the_database_answers(library: Engine) -> None:
    """Misses of everything, leases of nothing."""
    with Cache("redis://127.0.0.1:1", regions=REGIONS) as lost:
        factory = sessionmaker(library)
        lost.attach(factory)
        with factory() as session:
            session.add(Author(id=1, name="a"))
            session.commit()
        with factory() as session:
            assert names(lost.get_many(session, Author, [1, 2])) == ["a", None]
        lost.detach(factory)
        lost.detach(library)


def test_disabled_and_bypassed(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog
) -> None:
    """Within bypass() the database answers."""
    redis_log.clear()
    with filled() as session, cache.bypass():
        assert names(cache.get_many(session, Author, [1])) == ["author 1"]
    assert redis_log == []


async def test_from_coroutines(
    filled: sessionmaker[Session], async_database_url: str, redis_url: str, redis_log: RedisLog
) -> None:
    """The async twin does the same."""
    engine = create_async_engine(async_database_url)
    factory = async_sessionmaker(engine)
    async with patient_cache(redis_url, regions=REGIONS) as cache:
        cache.attach(factory)
        for _ in range(2):
            redis_log.clear()
            async with factory() as session:
                found = await cache.aget_many(session, Author, [3, 99, 1])
                assert names(found) == ["author 3", None, "author 1"]
        assert redis_log == ["mget"]
    await engine.dispose()


def test_through_an_engine_that_nobody_attached(
    filled: sessionmaker[Session], cache: Cache, database_url: str
) -> None:
    """Its writes are not followed, so nothing read through it is stored or served."""
    other = create_engine(database_url)
    with Session(other) as session:
        assert names(cache.get_many(session, Author, [1])) == ["author 1"]
        assert session.scalars(select(Author).where(Author.id == 1)).one().name == "author 1"
    other.dispose()
    assert cache.stats().bypasses["shelf", "engine not followed"] == 1
