"""Warming: everything there before anybody asks, nothing overwritten, resumable, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, bindparam, create_engine, event, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region, Regions, WarmSet
from cachedorm.errors import (
    ArgumentError,
    CacheUnavailable,
    ConfigurationError,
    DeclarationError,
)
from cachedorm.orm.warming.warmer import Warmed
from cachedorm.store.protocol.interest_registry import REGISTRY_KEY
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import Animal, Author, Cat, Diary, Dog, Place, Token

PAGES = Region("pages", db=3, ttl=timedelta(hours=1), jitter=0)
REGIONS = Regions(PAGES)


class Base(DeclarativeBase):
    __cache_regions__ = REGIONS


class Line(Cached, Base):
    """A key of two columns, and queries over it."""

    __tablename__ = "warm_lines"
    __cache__ = CachePolicy(PAGES, key="line:{page}:{number}")

    page: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str]


lines_of = CachedQuery(
    PAGES,
    "lines:{page}",
    select(Line).where(Line.page == bindparam("page")).order_by(Line.number),
)


@pytest.fixture
def written(engine: Engine, redis_url: str) -> Iterator[tuple[Cache, sessionmaker[Session]]]:
    """Seven pages of five lines, and a cache that knows none of them."""
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    with factory() as session:
        session.add_all(
            Line(page=page, number=number, words=f"{page}.{number}")
            for page in range(7)
            for number in range(5)
        )
        session.commit()
    with patient_cache(redis_url, regions=REGIONS) as cache:
        cache.attach(factory)
        yield cache, factory
        cache.detach(factory)
        cache.detach(engine)


@pytest.fixture
def filled(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """Twenty-five authors, none of them in the cache."""
    with sessions() as session:
        session.add_all(Author(id=number, name=f"author {number}") for number in range(25))
        session.commit()
    return sessions


def test_every_row_is_there_afterwards(
    filled: sessionmaker[Session], cache: Cache, sql_log: SqlLog
) -> None:
    """Reads after a warming need no database."""
    warmed = cache.warm(Author, batch=10)

    assert (warmed.seen, warmed.stored, warmed.fresh, warmed.passed) == (25, 25, 0, 0)
    assert warmed.finished
    sql_log.clear()
    with filled() as session:
        assert [session.get_one(Author, number).name for number in range(25)] == [
            f"author {number}" for number in range(25)
        ]
    assert sql_log == []


def test_what_is_there_is_left_alone(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """The second time only keys are read, and nothing is leased."""
    cache.warm(Author)
    redis_log.clear()
    sql_log.clear()
    warmed = cache.warm(Author)

    assert (warmed.stored, warmed.fresh) == (0, 25)
    assert redis_log == ["mget"]
    assert len(sql_log) == 1


def test_a_batch_is_one_read_and_two_pipelines(
    filled: sessionmaker[Session], cache: Cache, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """However many rows: a page of keys, an MGET, leases, the rows, their values."""
    cache.warm(Author)  # the server knows the scripts now
    cache.region("shelf").clear()
    redis_log.clear()
    sql_log.clear()
    cache.warm(Author, batch=100)

    assert redis_log == ["mget", *["acquire"] * 25, *["publish"] * 25]
    assert len(sql_log) == 2


def test_nothing_newer_is_overwritten(
    filled: sessionmaker[Session], cache: Cache, library: Engine
) -> None:
    """A commit between the rows' read and the store takes that lease away."""
    turns = iter(["keys", "rows"])

    def overtake(*arguments: object) -> None:
        if next(turns, None) == "rows":
            with filled() as other:
                other.get_one(Author, 3).name = "overtaken"
                other.commit()

    event.listen(library, "after_cursor_execute", overtake)
    warmed = cache.warm(Author)

    assert (warmed.stored, warmed.passed) == (24, 1)
    with filled() as session:
        assert session.get_one(Author, 3).name == "overtaken"


def test_it_goes_on_where_it_stopped(filled: sessionmaker[Session], cache: Cache) -> None:
    """A position is what a later warming begins after."""
    told: list[Warmed] = []

    class StopError(Exception):
        pass

    def stop(warmed: Warmed) -> None:
        told.append(warmed)
        if len(told) == 2:
            raise StopError

    with pytest.raises(StopError):
        cache.warm(Author, batch=10, progress=stop)
    assert [each.seen for each in told] == [10, 20]

    rest = cache.warm(Author, batch=10, after=told[-1].position)

    assert (rest.seen, rest.stored) == (5, 5)
    assert cache.warm(Author).fresh == 25


def test_a_position_is_of_one_set(filled: sessionmaker[Session], cache: Cache) -> None:
    """Another set's position, or no position at all, is refused."""
    position = cache.warm(Author).position
    with pytest.raises(ArgumentError, match="a position in 'Author'"):
        cache.warm(Place, after=position)
    with pytest.raises(ArgumentError, match="not a position"):
        cache.warm(Author, after="nonsense")


def test_memory_is_bounded_by_the_batch(filled: sessionmaker[Session], cache: Cache) -> None:
    """No statement asks for more rows than a batch."""
    seen: list[int] = []
    cache.warm(Author, batch=7, progress=lambda warmed: seen.append(warmed.seen))

    assert seen == [7, 14, 21, 25]


def test_natural_keys_and_subclasses(sessions: sessionmaker[Session], cache: Cache) -> None:
    """Rows are keyed as their policy says, and come as their concrete class."""
    with sessions() as session:
        session.add_all([Place(id=1, code="x"), Place(id=2, code="y")])
        session.add_all(
            [Animal(id=1, name="a"), Dog(id=2, name="d", tricks=3), Cat(id=3, name="c")]
        )
        session.commit()

    assert cache.warm(Place).stored == 2
    assert cache.warm(Animal).stored == 3
    with sessions() as session:
        place: Any = session.scalar(Place.by(code="y"))
        assert place.id == 2
        assert session.get_one(Dog, 2).tricks == 3


def test_a_row_of_no_class_is_passed_over(sessions: sessionmaker[Session], cache: Cache) -> None:
    """It holds up no other row."""
    with sessions() as session:
        session.add_all([Animal(id=1, name="a"), Dog(id=3, name="d")])
        session.execute(text("insert into animals (id, kind, name) values (2, 'yeti', 'y')"))
        session.commit()

    warmed = cache.warm(Animal)

    assert (warmed.seen, warmed.stored, warmed.passed) == (3, 2, 1)


def test_a_rows_own_lifetime_holds(sessions: sessionmaker[Session], cache: Cache) -> None:
    """What has expired already is not stored."""
    now = datetime.now(UTC)
    with sessions() as session:
        session.add_all(
            Token(id=str(days), owner="o", expires_at=now + timedelta(days=days))
            for days in (-1, 1)
        )
        session.commit()
    cache.region("desk").clear()
    cache.invalidate_matching("token:*")

    warmed = cache.warm(Token)

    assert (warmed.stored, warmed.passed) == (1, 1)


def test_queries(
    written: tuple[Cache, sessionmaker[Session]], sql_log: SqlLog, redis_log: RedisLog
) -> None:
    """A generator of parameters: each answer is there afterwards, and follows writes."""
    cache, factory = written
    warmed = cache.warm(lines_of, ({"page": page} for page in range(7)))
    assert (warmed.seen, warmed.stored, warmed.name) == (7, 7, "lines:{page}")

    sql_log.clear()
    with factory() as session:
        for page in range(7):
            lines = session.scalars(lines_of(page=page)).all()
            assert [line.words for line in lines] == [f"{page}.{number}" for number in range(5)]
    assert sql_log == []

    redis_log.clear()
    again = cache.warm(lines_of, [{"page": page} for page in range(7)])
    assert (again.stored, again.fresh) == (0, 7)
    assert redis_log == ["mget"]

    with factory() as session:
        session.get_one(Line, (3, 0)).words = "new"
        session.commit()
    assert cache.warm(lines_of, [{"page": page} for page in range(7)]).stored == 1


def test_queries_go_on_where_they_stopped(written: tuple[Cache, sessionmaker[Session]]) -> None:
    """Parameters that were done are passed over."""
    cache, _ = written
    first = cache.warm(lines_of, [{"page": page} for page in range(3)])
    rest = cache.warm(lines_of, [{"page": page} for page in range(7)], after=first.position)

    assert (rest.seen, rest.stored) == (4, 4)


def test_composite_keys_are_paged(written: tuple[Cache, sessionmaker[Session]]) -> None:
    """Pages of a key of two columns end in the middle of the first one."""
    cache, factory = written
    warmed = cache.warm(Line, batch=3)
    assert (warmed.seen, warmed.stored) == (35, 35)
    with factory() as session:
        assert session.get_one(Line, (6, 4)).words == "6.4"


def test_a_declared_set(written: tuple[Cache, sessionmaker[Session]]) -> None:
    """A set is warmed by itself; its parameters may be a function."""
    cache, _ = written
    some = WarmSet("some pages", lines_of, lambda: ({"page": page} for page in (1, 2)))

    for _ in range(2):
        warmed = cache.warm(some)
        assert (warmed.name, warmed.seen) == ("some pages", 2)


def test_parameters_are_checked(written: tuple[Cache, sessionmaker[Session]]) -> None:
    """As by the query itself; what was warmed before stays."""
    cache, _ = written
    with pytest.raises(ArgumentError, match="missing: page"):
        cache.warm(lines_of)


def test_any_cached_read_can_be_warmed(written: tuple[Cache, sessionmaker[Session]]) -> None:
    """What is only known to give a statement is asked once for each."""
    cache, _ = written

    def invalidator(page: int) -> object:
        return lines_of(page=page)

    warmed = cache.warm(invalidator, [{"page": 1}])  # type: ignore[arg-type]
    assert (warmed.seen, warmed.stored) == (1, 0)  # it fills itself: what came of it is not told
    assert cache.warm(lines_of, [{"page": 1}]).fresh == 1


def test_faults_of_declaration(filled: sessionmaker[Session], cache: Cache) -> None:
    """What cannot be warmed is an error that says why."""
    with pytest.raises(ArgumentError, match="not cached one by one"):
        cache.warm(Diary)
    with pytest.raises(ArgumentError, match="not a mapped class"):
        cache.warm(int)
    with pytest.raises(DeclarationError, match="takes no parameters"):
        cache.warm(Author, [{}])
    with pytest.raises(DeclarationError, match="expected a mapped class or a cached query"):
        WarmSet("odd", 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="batch=0"):
        cache.warm(Author, batch=0)


def test_without_redis_it_fails(library: Engine) -> None:
    """A warming that warms nothing says so."""
    with Cache("redis://127.0.0.1:1", database="x") as lost:
        factory = sessionmaker(library)
        lost.attach(factory)
        with factory.begin() as session:
            session.execute(text("insert into authors values (1, 'a')"))
        with pytest.raises(CacheUnavailable):
            lost.warm(Author)
        lost.detach(factory)
        lost.detach(library)


def test_nothing_is_stored_from_a_replica(
    library: Engine, redis_url: str, database_url: str
) -> None:
    """What was read there may be old."""
    engine = create_engine(database_url)
    with patient_cache(redis_url, database="x") as cache:
        cache.attach(engine, publish=False)
        with pytest.raises(ConfigurationError, match="replica"):
            cache.warm(Author)
    engine.dispose()
    with Cache() as empty, pytest.raises(ConfigurationError, match="nothing is attached"):
        empty.warm(Author)


async def test_from_coroutines(
    filled: sessionmaker[Session], async_database_url: str, redis_url: str
) -> None:
    """The async twin reads through an async factory."""
    engine = create_async_engine(async_database_url)
    async with patient_cache(redis_url) as cache:
        cache.attach(async_sessionmaker(engine))
        assert (await cache.awarm(Author, batch=10)).stored == 25
        assert (await cache.awarm(Author)).fresh == 25
    await engine.dispose()


def test_a_table_that_nobody_had_named_is_waited_for(
    filled: sessionmaker[Session], cache: Cache, redis_client: redis.Redis
) -> None:
    """Nobody may fill it for a moment, and nobody would warm it after that."""
    redis_client.flushall()
    redis_client.hset(REGISTRY_KEY, mapping={"~version": "v", "~born": 1})

    assert cache.warm(Author).stored == 25
