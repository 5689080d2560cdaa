"""Cached queries: every kind of SELECT gives the answer that a plain session gives."""

from __future__ import annotations

import enum
import operator
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Engine,
    Enum,
    ForeignKey,
    Numeric,
    String,
    Text,
    TypeDecorator,
    Uuid,
    and_,
    bindparam,
    case,
    create_engine,
    event,
    exists,
    func,
    lateral,
    literal,
    select,
    true,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Result, Row
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    composite,
    contains_eager,
    deferred,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    subqueryload,
    undefer,
)

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region, Regions
from cachedorm.errors import DeclarationError
from examples.servers import Found, scratch_database
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache

ROOM = Region("room", db=3, ttl=timedelta(hours=1), jitter=0)
HALL = Region("hall", db=4, ttl=timedelta(hours=1), jitter=0)


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Upper(TypeDecorator[str]):
    """Kept in upper case, seen in lower case."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()


class Size:
    """A composite value."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Maker(Cached, Base):
    __tablename__ = "makers"
    __table_args__ = ({"schema": "room"},)
    __cache__ = CachePolicy(ROOM, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("room.makers.id"))
    chairs: Mapped[list[Chair]] = relationship(back_populates="maker", order_by="Chair.id")


class Chair(Cached, Base):
    __tablename__ = "chairs"
    __table_args__ = ({"schema": "room"},)
    __cache__ = CachePolicy(ROOM, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("room.makers.id"))
    title: Mapped[str] = mapped_column(String(20))
    code: Mapped[str] = mapped_column(Upper)
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour))
    mark: Mapped[uuid.UUID] = mapped_column(Uuid)
    extra: Mapped[Any] = mapped_column(JSONB, nullable=True)
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[Size] = composite("width", "height")
    story: Mapped[str] = deferred(mapped_column(Text))
    maker: Mapped[Maker | None] = relationship(back_populates="chairs")


class Polish(Base):
    """Mapped without a policy."""

    __tablename__ = "polishes"
    __table_args__ = ({"schema": "room"},)

    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[str] = mapped_column(String(20))


MARKS = [uuid.UUID(int=number) for number in range(10)]


def rows() -> list[object]:
    """Two makers with chairs, one without, and a chair of nobody."""
    return [
        Maker(id=1, name="Kim"),
        Maker(id=2, name="이", boss_id=1),
        Maker(id=3, name="Park", boss_id=1),
        *(
            Chair(
                id=number,
                maker_id=owner,
                title=f"t{number % 3}",
                code=f"c{number}",
                price=Decimal(number) / 4,
                colour=None if number == 3 else Colour.RED if number % 2 else Colour.BLUE,
                mark=MARKS[number],
                extra={"n": [number, None]},
                width=number,
                height=2 * number,
                story=f"once {number}",
            )
            for number, owner in enumerate([1, 2, 1, None, 2, 1], start=1)
        ),
        Polish(id=1, colour="red"),
    ]


def query(statement: Any, key: str = "q:all", **options: Any) -> CachedQuery[Any]:
    """A query of the room."""
    return CachedQuery(ROOM, key, statement, **options)


maker: Any = bindparam("maker")
Boss = aliased(Maker)
mine = select(Chair).where(Chair.maker_id == maker).order_by(Chair.id)
pairs = (
    select(Maker, Chair)
    .outerjoin(Maker.chairs)
    .where(Maker.id == maker)
    .order_by(Maker.id, Chair.id)
)
counted = select(Chair.maker_id, func.count().label("n")).group_by(Chair.maker_id)
per_maker = counted.subquery("per_maker")
root = select(Maker.id).where(Maker.boss_id.is_(None)).cte("tree", recursive=True)
tree = root.union_all(select(Maker.id).join(root, Maker.boss_id == root.c.id))
dearest = lateral(
    select(Chair.title, Chair.price)
    .where(Chair.maker_id == Maker.id)
    .order_by(Chair.price.desc())
    .limit(1)
)

QUERIES: dict[str, tuple[CachedQuery[Any], dict[str, Any]]] = {
    "an entity": (query(mine, "q:{maker}"), {"maker": 1}),
    "no rows": (query(mine, "q:{maker}"), {"maker": 3}),
    "null": (query(mine, "q:all"), {"maker": None}),
    "a list": (query(select(Chair).order_by(Chair.id)), {}),
    "several entities": (query(pairs, "q:{maker}"), {"maker": 2}),
    "entities that are not there": (query(pairs, "q:{maker}"), {"maker": 3}),
    "an entity and columns": (
        query(
            select(Chair, Maker.name, (Chair.price * 2).label("double"))
            .outerjoin(Chair.maker)
            .order_by(Chair.id)
        ),
        {},
    ),
    "the same entity twice": (
        query(select(Maker, Boss).join(Boss, Boss.id == Maker.boss_id).order_by(Maker.id)),
        {},
    ),
    "columns": (query(select(Chair.id, Chair.title).order_by(Chair.id)), {}),
    "columns of every type": (
        query(
            select(
                Chair.code, Chair.price, Chair.colour, Chair.mark, Chair.extra, Chair.width
            ).order_by(Chair.id)
        ),
        {},
    ),
    "two columns of one name": (
        query(select(Maker.id, Boss.id).join(Boss, Boss.id == Maker.boss_id).order_by(Maker.id)),
        {},
    ),
    "a Core table": (query(select(Maker.__table__).order_by(Maker.__table__.c.id)), {}),
    "a scalar": (query(select(func.count(Chair.id))), {}),
    "aggregates": (
        query(
            select(
                Maker,
                func.count(Chair.id).label("chairs"),
                func.sum(case((Chair.colour == Colour.RED, 1), else_=0)).label("red"),
                func.max(Chair.price),
                func.array_agg(Chair.title, type_=ARRAY(String)),
            )
            .outerjoin(Maker.chairs)
            .where(Maker.id == maker)
            .group_by(Maker.id),
            "q:{maker}",
        ),
        {"maker": 3},
    ),
    "distinct": (query(select(Chair.title).distinct().order_by(Chair.title)), {}),
    "group by, having": (
        query(
            select(Chair.title, func.avg(Chair.price))
            .group_by(Chair.title)
            .having(func.count() > 1)
            .order_by(Chair.title)
        ),
        {},
    ),
    "a window": (
        query(
            select(
                Chair.id,
                func.rank().over(partition_by=Chair.maker_id, order_by=Chair.price.desc()),
            ).order_by(Chair.id)
        ),
        {},
    ),
    "exists": (
        query(
            select(Maker)
            .where(exists().where(Chair.maker_id == Maker.id, Chair.title == bindparam("title")))
            .order_by(Maker.id),
            "q:{title}",
        ),
        {"title": "t1"},
    ),
    "exists by relationship": (
        query(select(Maker).where(~Maker.chairs.any()).order_by(Maker.id)),
        {},
    ),
    "a correlated subquery": (
        query(
            select(
                Maker.name,
                select(func.count(Chair.id))
                .where(Chair.maker_id == Maker.id)
                .scalar_subquery()
                .label("n"),
            ).where(Maker.id == maker),
            "q:{maker}",
        ),
        {"maker": 1},
    ),
    "in a subquery": (
        query(
            select(Maker)
            .where(Maker.id.in_(select(Chair.maker_id).where(Chair.price > bindparam("price"))))
            .order_by(Maker.id),
            "q:{price}",
        ),
        {"price": Decimal("1.20")},
    ),
    "a subquery": (
        query(
            select(Maker.name, per_maker.c.n)
            .outerjoin(per_maker, per_maker.c.maker_id == Maker.id)
            .order_by(Maker.id)
        ),
        {},
    ),
    "an entity of a subquery": (
        query(select(aliased(Chair, mine.limit(2).subquery("two"))), "q:{maker}"),
        {"maker": 1},
    ),
    "a CTE": (
        query(
            select(Chair)
            .join((cte := counted.cte("n")), cte.c.maker_id == Chair.maker_id)
            .where(cte.c.n > 2)
            .order_by(Chair.id)
        ),
        {},
    ),
    "a recursive CTE": (query(select(tree.c.id).order_by(tree.c.id)), {}),
    "a lateral source": (
        query(
            select(Maker.name, dearest.c.title).outerjoin(dearest, true()).where(Maker.id == maker),
            "q:{maker}",
        ),
        {"maker": 2},
    ),
    "a union": (
        query(
            union(
                select(Maker.id, Maker.name), select(Chair.id, Chair.title.label("name"))
            ).order_by("id", "name")
        ),
        {},
    ),
    "a union all": (
        query(
            union_all(select(Chair.price), select(Chair.price).where(Chair.maker_id == maker)),
            "q:{maker}",
        ),
        {"maker": 1},
    ),
    "a union of entities": (
        query(
            select(
                aliased(
                    Chair,
                    union_all(
                        select(Chair).where(Chair.id < 3), select(Chair).where(Chair.id > 4)
                    ).subquery("both"),
                    name="both",
                )
            )
        ),
        {},
    ),
    "limit and offset": (
        query(
            select(Chair.id)
            .order_by(Chair.price.desc(), Chair.id)
            .limit(bindparam("limit", 2))
            .offset(bindparam("offset", 0)),
            "q:page",
        ),
        {"limit": 3, "offset": 1},
    ),
    "in": (
        query(
            select(Chair).where(Chair.id.in_(bindparam("ids", expanding=True))).order_by(Chair.id)
        ),
        {"ids": [5, 1, 99]},
    ),
    "in nothing": (
        query(select(Chair).where(Chair.id.in_(bindparam("ids", expanding=True)))),
        {"ids": []},
    ),
    "in many": (
        query(
            select(Chair.id)
            .where(Chair.id.in_(bindparam("ids", expanding=True)))
            .order_by(Chair.id)
        ),
        {"ids": range(50)},
    ),
    "in pairs": (
        query(
            select(Chair.id)
            .where(tuple_(Chair.id, Chair.width).in_([(1, 1), (2, 3), (4, 4)]))
            .order_by(Chair.id)
        ),
        {},
    ),
    "a decorated column": (
        query(select(Chair).where(Chair.code == bindparam("code")), "q:{code}"),
        {"code": "c2"},
    ),
    "an enum": (
        query(select(Chair.id).where(Chair.colour == bindparam("colour")), "q:{colour}"),
        {"colour": Colour.BLUE},
    ),
    "a Decimal": (
        query(select(Chair.id).where(Chair.price == bindparam("price")), "q:{price}"),
        {"price": Decimal("0.750")},
    ),
    "a UUID": (
        query(select(Chair.id).where(Chair.mark == bindparam("mark")), "q:{mark}"),
        {"mark": MARKS[4]},
    ),
    "a document": (
        query(select(Chair.id).where(Chair.extra == bindparam("extra", type_=JSONB)), "q:all"),
        {"extra": {"n": [2, None]}},
    ),
    "a full join": (
        query(
            select(Maker.id, Chair.id)
            .outerjoin(Chair, and_(Chair.maker_id == Maker.id, Chair.width > 1), full=True)
            .order_by(Chair.id, Maker.id)
        ),
        {},
    ),
    "grouping sets": (
        query(
            select(Chair.title, Chair.colour, func.count())
            .group_by(func.grouping_sets(tuple_(Chair.title), tuple_(Chair.colour)))
            .order_by(Chair.title, Chair.colour)
        ),
        {},
    ),
    "literals": (query(select(literal("x").label("x"), literal(5), Maker.id)), {}),
    "options of execution": (
        query(select(Maker).order_by(Maker.id).execution_options(anything=1)),
        {},
    ),
    "a class without a policy": (query(select(Polish)), {}),
}


@pytest.fixture(scope="module")
def room_url(servers: Found, template_database: str) -> Iterator[str]:
    """A database with the room's tables, for all tests here."""
    with scratch_database(servers.database_url, template=template_database) as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("create schema room")
        Base.metadata.create_all(engine)
        engine.dispose()
        yield url


@pytest.fixture
def room(room_url: str) -> Iterator[Engine]:
    """The engine of a database with the room's rows, and nothing else."""
    engine = create_engine(room_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("truncate room.chairs, room.makers, room.polishes")
    with Session(engine) as session:
        session.add_all(rows())
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def sql_log(room: Engine) -> SqlLog:
    """The SQL that the room's engine sends."""
    log = SqlLog()
    log.follow(room)
    return log


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis."""
    with patient_cache(redis_url, regions=Regions(ROOM, HALL)) as made:
        yield made


@pytest.fixture
def sessions(room: Engine, cache: Cache) -> Iterator[sessionmaker[Session]]:
    """A factory whose sessions the cache serves."""
    factory = sessionmaker(room)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(room)


@pytest.fixture
async def async_sessions(
    room: Engine, cache: Cache, room_url: str
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """The same for asyncio."""
    engine = create_async_engine(room_url)
    factory = async_sessionmaker(engine)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(engine)
    await engine.dispose()


def shown(value: Any) -> Any:
    """A value to compare: of an object its columns, so that two sessions' objects compare."""
    if isinstance(value, Base):
        names = [attribute.key for attribute in value.__mapper__.column_attrs]
        return type(value), {name: vars(value).get(name) for name in names}
    return value


def all_shown(result: Result[Any]) -> list[Any]:
    """All rows of a result, by name and by place."""
    return [(row._fields, [shown(value) for value in row]) for row in result]


@pytest.mark.parametrize("name", QUERIES)
def test_the_answer_is_a_plain_sessions(
    name: str, sessions: sessionmaker[Session], room: Engine, sql_log: SqlLog
) -> None:
    """Rows, names and types; on a miss, on a hit, and as scalars."""
    cached, values = QUERIES[name]
    with Session(room) as session:
        expected = all_shown(session.execute(cached(**values)))
        scalars = [shown(value) for value in session.scalars(cached(**values))]
    with sessions() as session:
        assert all_shown(session.execute(cached(**values))) == expected
    sql_log.clear()
    with sessions() as session:
        assert all_shown(session.execute(cached(**values))) == expected
        assert [shown(value) for value in session.scalars(cached(**values))] == scalars
        assert session.scalar(cached(**values)) is None or scalars
    assert sql_log == []


@pytest.mark.parametrize("name", QUERIES)
async def test_the_async_answer_is_the_same(
    name: str,
    async_sessions: async_sessionmaker[AsyncSession],
    room: Engine,
    sql_log: SqlLog,
) -> None:
    """The same words with await."""
    sql_log.follow(async_sessions.kw["bind"])
    cached, values = QUERIES[name]
    with Session(room) as plain:
        expected = all_shown(plain.execute(cached(**values)))
    for _ in range(2):
        sql_log.clear()
        async with async_sessions() as session:
            assert all_shown(await session.execute(cached(**values))) == expected
            found = (await session.scalars(cached(**values))).all()
            assert len(found) == len(expected)
    assert sql_log == []


def test_a_hit_is_one_command(
    sessions: sessionmaker[Session], redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """A miss takes three commands, a list of any length one, and no connection."""
    cached = QUERIES["several entities"][0]
    with sessions() as session:
        session.execute(cached(maker=1)).all()
    redis_log.clear()
    sql_log.clear()
    with sessions() as session:
        assert len(session.execute(cached(maker=1)).all()) == 3
    assert redis_log == ["mget"]
    assert sql_log == []
    assert sql_log.checkouts == 0
    redis_log.clear()
    with sessions() as session:
        session.execute(cached(maker=2)).all()
    assert redis_log == ["mget", "acquire", "publish"]


def test_entities_are_live(sessions: sessionmaker[Session]) -> None:
    """They belong to the session, are told apart by identity, and their changes are written."""
    cached = QUERIES["several entities"][0]
    with sessions() as session:
        session.execute(cached(maker=1)).all()
    with sessions() as session:
        first, *others = session.execute(cached(maker=1)).all()
        assert first.Maker in session
        assert all(row.Maker is first.Maker for row in others)
        assert first.Maker is session.identity_map[session.identity_key(Maker, 1)]
        first.Maker.name = "Choi"
        session.commit()
    with sessions() as session:
        assert {row.Maker.name for row in session.execute(cached(maker=1))} == {"Choi"}


def test_an_object_of_the_session_stays_as_it_is(
    sessions: sessionmaker[Session], room: Engine
) -> None:
    """As with SQLAlchemy: what the session holds wins over what the answer says."""
    cached = QUERIES["an entity"][0]
    with sessions() as session:
        chair = session.get_one(Chair, 1)
        with Session(room) as other:
            other.get_one(Chair, 1).title = "newer"
            other.commit()
        assert session.scalars(cached(maker=1)).first() is chair
        assert chair.title == "t1"
    with sessions() as session:
        assert session.scalars(cached(maker=1)).all()[0].title == "newer"


@pytest.mark.parametrize("warm", [False, True])
def test_results_have_every_method(sessions: sessionmaker[Session], warm: bool) -> None:
    """first, one, unique, partitions, mappings, columns, tuples, keys."""
    cached = QUERIES["an entity and columns"][0]
    if warm:
        with sessions() as session:
            session.execute(cached()).all()
    with sessions() as session:
        first: Row[Any] = session.execute(cached()).all()[0]
        assert session.execute(cached()).first() == first
        assert first.name == "Kim"
        assert first.double == Decimal("0.50")
        assert first.Chair.id == 1
        assert first._mapping[Chair] is first.Chair
        assert first._mapping[Maker.name] == "Kim"
        assert list(session.execute(cached()).keys()) == ["Chair", "name", "double"]
        assert [len(part) for part in session.execute(cached()).partitions(4)] == [4, 2]
        mapping = session.execute(cached()).mappings().all()[1]
        assert mapping["name"] == "이"
        assert session.execute(cached()).unique().all()[0] == first
        assert session.execute(cached()).columns(1, 0).first() == ("Kim", first.Chair)
        assert session.scalars(cached()).unique().first() is first.Chair
        assert session.execute(cached()).fetchmany(2)[0] == first
        assert session.execute(cached()).scalars("name").all()[3] is None
        with pytest.raises(Exception, match="Multiple rows"):
            session.execute(cached()).one()
    with sessions() as session:
        titles = QUERIES["columns"][0]
        assert len(session.scalars(titles()).unique().all()) == 6
        names = session.execute(titles()).unique(lambda row: row.title).all()
        assert [row.title for row in names] == ["t1", "t2", "t0"]


CHANGES: dict[str, Any] = {
    "where": lambda statement: statement.where(Chair.id > 1),
    "limit": lambda statement: statement.limit(1),
    "order": lambda statement: statement.order_by(None).order_by(Chair.id.desc()),
    "options": lambda statement: statement.options(lazyload(Chair.maker)),
    "for update": lambda statement: statement.with_for_update(),
    "execution options": lambda statement: statement.execution_options(populate_existing=True),
    "parameters of the statement": lambda statement: statement.params(maker=2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_statement_is_plain_sql(
    change: str, sessions: sessionmaker[Session], sql_log: SqlLog, redis_log: RedisLog
) -> None:
    """What the call did not make is answered by the database, with the change."""
    cached = QUERIES["an entity"][0]
    with sessions() as session:
        assert [chair.id for chair in session.scalars(cached(maker=1))] == [1, 3, 6]
    sql_log.clear()
    redis_log.clear()
    expected = {
        "where": [3, 6],
        "limit": [1],
        "order": [6, 3, 1],
        "parameters of the statement": [2, 5],
    }.get(change, [1, 3, 6])
    with sessions() as session:
        statement = CHANGES[change](cached(maker=1))
        assert [chair.id for chair in session.scalars(statement)] == expected
    assert len(sql_log) == 1
    assert redis_log == []


of_maker = QUERIES["an entity"][0]
several = query(
    select(Chair.id).where(Chair.id.in_(bindparam("ids", expanding=True))), "q:several:{ids}"
)
WITHIN: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "subquery": (
        lambda: select(of_maker(maker=1).subquery().c.id).order_by("id"),
        [1, 3, 6],
    ),
    "cte": (lambda: select(of_maker(maker=2).cte("mine").c.id).order_by("id"), [2, 5]),
    "lateral": (
        lambda: select(of_maker(maker=2).lateral("mine").c.id).order_by("id"),
        [2, 5],
    ),
    "in": (
        lambda: (
            select(Chair.id)
            .where(Chair.id.in_(of_maker(maker=1).with_only_columns(Chair.id)))
            .order_by(Chair.id)
        ),
        [1, 3, 6],
    ),
    "exists": (
        lambda: (
            select(Maker.id)
            .where(of_maker(maker=1).exists(), ~of_maker(maker=3).exists())
            .order_by(Maker.id)
        ),
        [1, 2, 3],
    ),
    "scalar": (
        lambda: select(
            of_maker(maker=2).with_only_columns(func.sum(Chair.id)).order_by(None).scalar_subquery()
        ),
        [7],
    ),
    "union": (
        lambda: union(
            *(of_maker(maker=each).with_only_columns(Chair.id).order_by(None) for each in (1, 2))
        ).order_by("id"),
        [1, 2, 3, 5, 6],
    ),
    "an alias of the entity": (
        lambda: select(aliased(Chair, of_maker(maker=1).subquery()).id).order_by("id"),
        [1, 3, 6],
    ),
    "a list": (lambda: select(several(ids=[1, 2]).subquery().c.id).order_by("id"), [1, 2]),
}


@pytest.mark.parametrize("how", WITHIN)
def test_a_call_within_another_statement_is_plain_sql(
    how: str, sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """With the values of the call, which no other parameter of that name takes over."""
    within, expected = WITHIN[how]
    with sessions() as session:
        assert session.scalars(within()).all() == expected
    assert redis_log == []


def test_parameters_of_the_execution_are_plain_sql(
    sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """They win over the call's, as with any statement."""
    cached = QUERIES["an entity"][0]
    with sessions() as session:
        session.scalars(cached(maker=1)).all()
        redis_log.clear()
        found = session.scalars(cached(maker=1), {"maker": 2})
        assert [chair.id for chair in found] == [2, 5]
        assert redis_log == []
        with session.connection() as connection:
            assert len(connection.execute(cached(maker=1)).all()) == 3


def test_a_listener_of_the_application_has_its_say(
    sessions: sessionmaker[Session], cache: Cache
) -> None:
    """Its criteria are in no key, so such sessions read the database."""
    cached = QUERIES["an entity"][0]
    with sessions() as session:
        event.listen(session, "do_orm_execute", lambda state: None)
        assert len(session.scalars(cached(maker=1)).all()) == 3
    assert cache.stats().bypasses == {("room", "own do_orm_execute listener"): 1}


EAGER: dict[str, Any] = {
    "joined": select(Maker).options(joinedload(Maker.chairs)).order_by(Maker.id),
    "selectin": select(Maker).options(selectinload(Maker.chairs)).order_by(Maker.id),
    "subquery": select(Maker).options(subqueryload(Maker.chairs)).order_by(Maker.id),
    "chain": select(Maker)
    .options(selectinload(Maker.chairs).joinedload(Chair.maker))
    .order_by(Maker.id),
    "contains": select(Maker)
    .outerjoin(Maker.chairs)
    .options(contains_eager(Maker.chairs))
    .order_by(Maker.id, Chair.id),
}


@pytest.mark.parametrize("how", EAGER)
async def test_relationships_come_back_loaded(
    how: str,
    async_sessions: async_sessionmaker[AsyncSession],
    sql_log: SqlLog,
) -> None:
    """On a hit too: under asyncio a lazy load would raise. Writes of either table are followed."""
    sql_log.follow(async_sessions.kw["bind"])
    cached = query(EAGER[how])
    assert {str(each) for each in cached.dependencies} == {"room.makers.*", "room.chairs.*"}

    async def read() -> list[tuple[str, list[str]]]:
        async with async_sessions() as session:
            found = (await session.scalars(cached())).unique().all()
            return [(each.name, [chair.title for chair in each.chairs]) for each in found]

    expected = [("Kim", ["t1", "t0", "t0"]), ("이", ["t2", "t2"]), ("Park", [])]
    assert await read() == expected
    sql_log.clear()
    assert await read() == expected
    assert sql_log == []
    async with async_sessions() as session:
        (await session.get_one(Chair, 1)).title = "new"
        (await session.get_one(Chair, 2)).maker_id = 3
        await session.commit()
    expected = [("Kim", ["new", "t0", "t0"]), ("이", ["t2"]), ("Park", ["t2"])]
    assert await read() == expected
    assert await read() == expected


@pytest.mark.parametrize("how", EAGER)
def test_a_joined_collection_wants_unique(how: str, sessions: sessionmaker[Session]) -> None:
    """As without a cache, so that what was written against a hit works when there is none."""
    cached = query(EAGER[how], f"q:unique:{how}")
    wanted = how in {"joined", "contains"}
    with sessions() as session:
        for _ in range(2):
            for read in (session.scalars, session.execute):
                if wanted:
                    with pytest.raises(InvalidRequestError, match="unique"):
                        read(cached()).all()
                assert len(read(cached()).unique().all()) == 3
        if wanted:
            with pytest.raises(InvalidRequestError, match="unique"):
                session.scalars(EAGER[how]).all()
        assert len(session.scalars(cached()).unique().all()) == 3


def test_eager_loading_takes_the_calls_parameters(
    sessions: sessionmaker[Session], room: Engine
) -> None:
    """A subqueryload repeats the statement, parameters and all; without a cache as well."""
    cached = query(
        select(Maker).where(Maker.id == maker).options(subqueryload(Maker.chairs)), "q:{maker}"
    )
    for make in (sessionmaker(room), sessions, sessions):
        with make() as session:
            found = session.scalars(cached(maker=2)).one()
            assert [chair.id for chair in found.__dict__["chairs"]] == [2, 5]


def test_composites_and_deferred_columns(sessions: sessionmaker[Session]) -> None:
    """A composite is there on a hit; a deferred column loads when it is touched."""
    cached = QUERIES["an entity"][0]
    for _ in range(2):
        with sessions() as session:
            chair = session.scalars(cached(maker=1)).all()[0]
            assert chair.size == Size(1, 2)
            assert "story" not in chair.__dict__
            assert chair.story == "once 1"


def test_undeferred_columns_are_refused(sessions: sessionmaker[Session]) -> None:
    """Filled lazily they would raise under asyncio, and only on hits."""
    told = query(select(Chair).options(undefer(Chair.story)))
    with sessions() as session, pytest.raises(DeclarationError, match=r"Chair\.story"):
        session.execute(told())


def test_rows_that_come_twice_stay_twice(sessions: sessionmaker[Session], room: Engine) -> None:
    """Only what a joined collection repeats is made one; and entries hold whole rows."""
    cached = query(
        select(Maker)
        .join(Maker.chairs)
        .options(selectinload(Maker.chairs).load_only(Chair.title))
        .order_by(Maker.id)
    )
    for make in (sessionmaker(room), sessions, sessions):
        with make() as session:
            found = session.scalars(cached()).all()
            assert [each.name for each in found] == ["Kim"] * 3 + ["이"] * 2
            assert found[0].chairs[0].width == 1


def test_what_cannot_be_stored_is_refused_by_name(sessions: sessionmaker[Session]) -> None:
    """A bundle has no exact form."""
    bundled = query(select(Bundle("b", Chair.id, Chair.title)), depends_on=(Chair,))
    with sessions() as session, pytest.raises(DeclarationError, match="column 'b'"):
        session.execute(bundled())


def test_keys_tell_parameters_apart(sessions: sessionmaker[Session], redis_log: RedisLog) -> None:
    """Template first, the others appended by name, defaults included; huge ones are hashed."""
    cached = query(
        select(Chair.id)
        .where(Chair.title == bindparam("title"), Chair.extra == bindparam("extra", type_=JSONB))
        .limit(bindparam("limit", 10)),
        "q:{title}",
    )
    with sessions() as session:
        session.scalars(cached(title="의자 A", extra=None)).all()
        session.scalars(cached(title="의자 A", extra={"n": [1]}, limit=5)).all()
        session.scalars(cached(title="x" * 9000, extra=None)).all()
    first, second, third = (each.args[0] for each in redis_log.commands() if each.name == "mget")
    assert first.endswith("?extra&limit=10")
    assert second.endswith("&limit=5")
    assert third.startswith("q:~h:")
    assert len(third) < 60


class Cents(TypeDecorator[Decimal]):
    """A price as a number of cents."""

    impl = Numeric(8, 2)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value / 100


@pytest.mark.parametrize("compared", [operator.eq, operator.le])
@pytest.mark.parametrize("type_", [Numeric(8, 2), Cents])
def test_a_number_is_asked_for_as_it_is(
    compared: Any, type_: Any, sessions: sessionmaker[Session], room: Engine
) -> None:
    """More digits than the column has are another question, with another answer."""
    with Session(room) as session:
        prices = session.scalars(select(Chair.price).order_by(Chair.price).distinct()).all()
    price = bindparam("price", type_=type_)
    cached = query(select(Chair.id).where(compared(Chair.price, price)).order_by(Chair.id), "q:all")
    factor = 100 if type_ is Cents else 1
    for asked in (prices[0], prices[0] - Decimal("0.001"), prices[0] + Decimal("0.001")):
        with Session(room) as plain, sessions() as session:
            expected = plain.scalars(cached(price=asked * factor)).all()
            assert session.scalars(cached(price=asked * factor)).all() == expected


def test_a_long_answer_is_given_but_not_kept(
    sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    """The message says how long and how to shorten it."""
    cached = query(select(Chair), rows_max=5)
    for _ in range(2):
        with sessions() as session:
            assert len(session.scalars(cached()).all()) == 6
    assert "has 6 rows and is not cached: more than 5" in caplog.text


def test_own_writes_are_seen_before_the_commit(sessions: sessionmaker[Session]) -> None:
    """Flushed or not: the session's own view comes from the database."""
    cached = QUERIES["an entity"][0]
    with sessions() as session:
        session.scalars(cached(maker=1)).all()
    with sessions() as session:
        session.get_one(Chair, 2).maker_id = 1
        assert [chair.id for chair in session.scalars(cached(maker=1))] == [1, 2, 3, 6]
        session.rollback()
        assert [chair.id for chair in session.scalars(cached(maker=1))] == [1, 3, 6]


async def test_writes_are_followed_in_both_colours(
    async_sessions: async_sessionmaker[AsyncSession], sessions: sessionmaker[Session]
) -> None:
    """A row enters a list of more than twenty values, and one of a few."""
    many = QUERIES["in many"][0]
    few = QUERIES["in"][0]
    for session_of in range(2):
        with sessions() as session:
            before = session.scalars(many(ids=range(50))).all()
            assert [chair.id for chair in session.scalars(few(ids=[1, 20 + session_of]))] == [1]
        chair: dict[str, Any] = {"title": "x", "code": "x", "mark": MARKS[0], "story": ""}
        chair |= {"price": 1, "width": 1, "height": 1}
        async with async_sessions() as asynchronous:
            asynchronous.add(Chair(id=20 + session_of, **chair))
            await asynchronous.commit()
        with sessions() as session:
            assert len(session.scalars(many(ids=range(50))).all()) == len(before) + 1
            assert len(session.scalars(few(ids=[1, 20 + session_of])).all()) == 2


# The only query of its region: nothing else makes writers touch the table's membership there.
polishes = CachedQuery(
    HALL,
    "polishes:some",
    select(Polish).where(Polish.id.in_(bindparam("ids", expanding=True))).order_by(Polish.id),
)


@pytest.mark.parametrize("ids", [range(5), range(50), []])
def test_a_list_of_any_length_follows_its_rows(
    ids: Any, sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """A few values are a stamp each, more are the table's membership."""

    def colours() -> list[str]:
        with sessions() as session:
            return [each.colour for each in session.scalars(polishes(ids=ids))]

    assert colours() == (["red"] if ids else [])
    with sessions() as session:
        session.get_one(Polish, 1).colour = "blue"
        session.add(Polish(id=2, colour="green"))
        session.commit()
    assert colours() == (["blue", "green"] if ids else [])
    redis_log.clear()
    assert colours() == (["blue", "green"] if ids else [])
    (read,) = redis_log.commands()
    assert len(read.args) <= 1 + 1 + 5
