"""Invalidation by hand: what is named ends, and nothing that merely looks like it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, Float, String, bindparam, func, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region, Regions, tag
from cachedorm.errors import ArgumentError
from cachedorm.orm.reading.queries import QueryPlan
from cachedorm.store.entries.fill import Loaded
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache

PEOPLE = Region("people", db=4, ttl=timedelta(hours=1), jitter=0)
DEEDS = Region("deeds", db=5, ttl=timedelta(hours=1), jitter=0)
FAR = Region("far", db=6, ttl=timedelta(hours=1), jitter=0)
REGIONS = Regions(PEOPLE, DEEDS, FAR)
INT: Any = int


class Base(DeclarativeBase):
    __cache_regions__ = REGIONS


class Person(Cached, Base):
    __tablename__ = "byhand_people"
    __cache__ = CachePolicy(PEOPLE, key="person:{deedholder_id}")

    deedholder_id: Mapped[str] = mapped_column("id", String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Deed(Cached, Base):
    """Its key has two fields, so one of them does not tell the key."""

    __tablename__ = "byhand_deeds"
    __cache__ = CachePolicy(DEEDS, key="deed:{deedholder_id}:{number}")

    deedholder_id: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))


deeds_of = CachedQuery(
    DEEDS,
    "deeds:of:{deedholder_id}",
    select(Deed)
    .where(Deed.deedholder_id == bindparam("deedholder_id"))
    .order_by(Deed.number)
    .limit(bindparam("limit", 10)),
)
# No equality narrows it, so nothing but the field's own stamp finds its entries.
names_beyond = CachedQuery(
    FAR,
    "names:beyond:{deedholder_id}",
    select(Person.name)
    .where(Person.deedholder_id > bindparam("deedholder_id"))
    .order_by(Person.deedholder_id)
    .limit(bindparam("limit", 10)),
)
titled = CachedQuery(
    FAR,
    "titled:{word}",
    select(func.count()).select_from(Deed).where(func.lower(Deed.title) == bindparam("word")),
)

# Parameters whose values are of no type that a tag can be made of.
spelled = CachedQuery(
    FAR,
    "spelled:{spelling}",
    select(Person.name).where(
        func.lower(Person.deedholder_id) == func.lower(bindparam("spelling"))
    ),
)
shorter = CachedQuery(
    FAR,
    "shorter:{ratio}",
    select(Person.name)
    .where(func.length(Person.name) < bindparam("ratio", type_=Float))
    .order_by(Person.deedholder_id),
)


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    with patient_cache(redis_url, regions=REGIONS) as made:
        yield made


@pytest.fixture
def people(engine: Engine, cache: Cache) -> Iterator[sessionmaker[Session]]:
    """Two persons with two deeds each, every entry warm; behind the cache's back all is renamed."""
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    cache.attach(factory)
    with factory() as session:
        session.add_all(Person(deedholder_id=each, name="old") for each in ("42", "142"))
        session.add_all(
            Deed(deedholder_id=each, number=number, title="old")
            for each in ("42", "142")
            for number in (1, 42)
        )
        session.commit()
    for _ in range(2):
        seen(factory)
    cache.detach(factory)
    cache.detach(engine)
    with engine.begin() as connection:
        connection.execute(text("update byhand_people set name = 'new'"))
        connection.execute(text("update byhand_deeds set title = 'new'"))
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(engine)


def seen(factory: sessionmaker[Session]) -> dict[str, str]:
    """Every entry of these tests, by a short name: what a reader gets."""
    found = {}
    with factory() as session:
        for user in ("42", "142"):
            person = session.get(Person, user)
            assert person is not None
            found[f"person {user}"] = person.name
    for user in ("42", "142"):
        for number in (1, 42):
            with factory() as session:
                deed = session.get(Deed, (user, number))
                assert deed is not None
                found[f"deed {user} {number}"] = deed.title
        for limit in (1, 10):
            with factory() as session:
                titles = [
                    deed.title
                    for deed in session.scalars(deeds_of(deedholder_id=user, limit=limit))
                ]
                found[f"deeds {user} {limit}"] = titles[0]
    with factory() as session:
        for user in ("0", "1"):
            names = session.scalars(names_beyond(deedholder_id=user)).all()
            found[f"names {user}"] = names[0]
        found["titled"] = "new" if session.scalar(titled(word="new")) else "old"
    return found


def renewed(factory: sessionmaker[Session]) -> set[str]:
    """Which entries are no longer served from before."""
    return {name for name, value in seen(factory).items() if value == "new"}


def test_what_nobody_ended_is_served(people: sessionmaker[Session]) -> None:
    """The tests' premise: a write that no session saw changes nothing that is cached."""
    assert renewed(people) == set()


def test_by_model_and_key(people: sessionmaker[Session], cache: Cache) -> None:
    """A key ends its own entry."""
    cache.invalidate(Person, "42")
    cache.invalidate(Deed, "42", 1)

    assert renewed(people) == {"person 42", "deed 42 1"}


def test_by_object(people: sessionmaker[Session], cache: Cache) -> None:
    """An object ends its entry, and those of queries it may be in."""
    with people() as session:
        cache.invalidate(session.get(Deed, ("42", 1)))

    assert renewed(people) == {"deed 42 1", "deeds 42 1", "deeds 42 10", "titled"}


def test_by_tag(people: sessionmaker[Session], cache: Cache) -> None:
    """A tag ends every answer that was narrowed by it, and no row."""
    cache.invalidate(tag(Deed.deedholder_id, "42"))

    assert renewed(people) == {"deeds 42 1", "deeds 42 10"}


def test_by_a_tag_of_a_column(people: sessionmaker[Session], cache: Cache) -> None:
    """A Table's column serves as well as the attribute mapped to it."""
    cache.invalidate(tag(Deed.__table__.c.deedholder_id, "142"))

    assert renewed(people) == {"deeds 142 1", "deeds 142 10"}


def test_everything_of_one_user(people: sessionmaker[Session], cache: Cache) -> None:
    """Every template and tag with the field, with whatever is appended; not what ends in 42."""
    cache.invalidate_where(deedholder_id=42)

    assert renewed(people) == {
        "person 42", "deed 42 1", "deed 42 42", "deeds 42 1", "deeds 42 10"
    }  # fmt: skip


def test_a_field_that_narrows_nothing(people: sessionmaker[Session], cache: Cache) -> None:
    """Answers that no tag finds carry a stamp of the field."""
    cache.invalidate_where(deedholder_id="0")

    assert renewed(people) == {"names 0"}


@pytest.mark.parametrize(
    ("query", "field"), [(spelled, {"spelling": "42"}), (shorter, {"ratio": 4.5})]
)
def test_a_field_of_any_type(
    people: sessionmaker[Session],
    cache: Cache,
    engine: Engine,
    query: CachedQuery[Any],
    field: dict[str, Any],
) -> None:
    """Whatever a reader made the key of, by hand it is found again."""
    with people() as session:
        assert session.scalars(query(**field)).first() == "new"
    cache.detach(people)
    cache.detach(engine)
    with engine.begin() as connection:
        connection.execute(text("update byhand_people set name = 'next'"))
    cache.attach(people)
    with people() as session:
        assert session.scalars(query(**field)).first() == "new"

    cache.invalidate_where(**field)

    with people() as session:
        assert session.scalars(query(**field)).first() == "next"


def test_by_another_field_of_the_key(people: sessionmaker[Session], cache: Cache) -> None:
    """Any field of a template finds it."""
    cache.invalidate_where(number=42)

    assert renewed(people) == {"deed 42 42", "deed 142 42"}


def test_a_whole_region(people: sessionmaker[Session], cache: Cache, redis_log: RedisLog) -> None:
    """All of a region ends in one script, and nothing of another."""
    cache.invalidate(PEOPLE)  # so that the server knows the script
    seen(people)
    redis_log.clear()
    cache.invalidate(FAR)

    assert redis_log == ["clear"]
    assert renewed(people) == {"person 42", "person 142", "names 0", "names 1", "titled"}


def test_a_region_that_this_process_never_read(
    people: sessionmaker[Session], redis_url: str
) -> None:
    """A process that has read nothing clears all the same."""
    with patient_cache(redis_url, regions=REGIONS) as other:
        other.invalidate(DEEDS)

    assert renewed(people) == {
        "deed 42 1", "deed 42 42", "deed 142 1", "deed 142 42",
        "deeds 42 1", "deeds 42 10", "deeds 142 1", "deeds 142 10",
    }  # fmt: skip


def test_no_scan_of_the_key_space(
    people: sessionmaker[Session], cache: Cache, redis_log: RedisLog
) -> None:
    """However many entries there are, a field costs one script for each Redis database."""
    redis_log.clear()
    cache.invalidate_where(deedholder_id=42)

    assert redis_log == ["settle"] * 3


def test_matching(people: sessionmaker[Session], cache: Cache, redis_client: redis.Redis) -> None:
    """A pattern ends what it matches in the regions asked for; the library's own keys stay."""
    assert cache.invalidate_matching("deed*:42[:\\?]*", DEEDS) == 4
    assert cache.invalidate_matching("*:142", "people") == 1
    assert renewed(people) == {
        "deed 42 1", "deed 42 42", "deeds 42 1", "deeds 42 10", "person 142"
    }  # fmt: skip

    redis_client.select(5)
    stamps = redis_client.keys("~*")
    assert cache.invalidate_matching("*", DEEDS) == 8
    assert sorted(redis_client.keys("*")) == sorted(stamps)


def test_matching_goes_through_batches(cache: Cache, redis_client: redis.Redis) -> None:
    """More keys than one look finds are all found."""
    redis_client.select(4)
    redis_client.mset({f"person:{number}": b"x" for number in range(2500)})

    assert cache.invalidate_matching("person:*") == 2500
    assert redis_client.dbsize() == 0


def test_a_list_is_still_one_command(
    people: sessionmaker[Session], redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """The stamp of a field travels in the same MGET."""
    redis_log.clear()
    sql_log.clear()
    with people() as session:
        session.scalars(names_beyond(deedholder_id="0")).all()

    assert redis_log == ["mget"]
    assert sql_log == []


def test_a_fill_that_began_before_is_refused(
    people: sessionmaker[Session], cache: Cache, engine: Engine
) -> None:
    """A reader that has read the old row does not store it after the invalidation."""
    cache.invalidate_where(deedholder_id="0")
    region = cache.region("far")
    plan = cache._attachment.query_plan_of(names_beyond)
    assert isinstance(plan, QueryPlan)
    key = plan.key({"deedholder_id": "0", "limit": 10})
    seen_by_reader = region.entries.look((key,))[0]

    def load() -> Loaded:
        cache.invalidate_where(deedholder_id="0")
        return Loaded([("old",)])

    assert region.fill(key, load, asked=seen_by_reader.asked) == [("old",)]
    assert renewed(people) >= {"names 0"}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda cache: cache.invalidate_where(nothing=1), "no key template and no tag"),
        (lambda cache: cache.invalidate_where(deedholder_id=None), "no key is made of a null"),
        (lambda cache: cache.invalidate_where(), "one field"),
        (lambda cache: cache.invalidate_where(deedholder_id=1, number=2), "one field"),
        (lambda cache: cache.invalidate(tag(Person.name, "x")), "no declared query is narrowed"),
        (lambda cache: cache.invalidate(tag(Person.name, None)), "no equality finds a NULL"),
        (lambda cache: cache.invalidate(tag(INT, 1)), "expected a column"),
        (lambda cache: cache.invalidate(Person(deedholder_id="1")), "no identity"),
        (lambda cache: cache.invalidate(Person), "deedholder_id"),
        (lambda cache: cache.invalidate(int, 1), "is not a mapped class"),
        (lambda cache: cache.invalidate("person"), "give an object"),
        (lambda cache: cache.invalidate(FAR, 1), "a key goes with a model"),
        (lambda cache: cache.invalidate_matching(""), "glob pattern"),
        (lambda cache: cache.invalidate_matching("*", "nowhere"), "no region is named"),
    ],
)
def test_what_cannot_be_meant(cache: Cache, what: object, says: str) -> None:
    """A name that nothing has is an error, not silence."""
    with pytest.raises(ArgumentError, match=says):
        what(cache)  # type: ignore[operator]


def test_without_redis_it_is_told_later(people: sessionmaker[Session]) -> None:
    """No invalidation by hand raises because Redis is away."""
    with Cache("redis://127.0.0.1:1", regions=REGIONS) as lost:
        lost.invalidate_where(deedholder_id=42)
        lost.invalidate(FAR)
        assert lost.invalidate_matching("*") == 0
        assert not lost._store.trusted(FAR.db)


async def test_from_coroutines(
    engine: Engine, async_database_url: str, redis_url: str, people: sessionmaker[Session]
) -> None:
    """The async twins do the same."""
    made = create_async_engine(async_database_url)
    async with patient_cache(redis_url, regions=REGIONS) as cache:
        cache.attach(async_sessionmaker(made))
        await cache.ainvalidate(Person, "42")
        await cache.ainvalidate_where(number=1)
        assert await cache.ainvalidate_matching("names:*", FAR) == 2
    await made.dispose()

    assert renewed(people) == {"person 42", "deed 42 1", "deed 142 1", "names 0", "names 1"}
