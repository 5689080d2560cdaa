"""What is loaded along with a cached query's rows: whatever decides about it is depended on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    DateTime,
    Engine,
    ForeignKey,
    String,
    TypeDecorator,
    and_,
    bindparam,
    create_engine,
    delete,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import SADeprecationWarning
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    attribute_keyed_dict,
    foreign,
    mapped_column,
    noload,
    query_expression,
    raiseload,
    relationship,
    selectinload,
    sessionmaker,
    with_expression,
)

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region, Regions, cached
from cachedorm.errors import DeclarationError
from examples.servers import Found, scratch_database
from tests.fixtures.logs import SqlLog
from tests.fixtures.patience import patient_cache

YARD = Region("yard", db=3, ttl=timedelta(hours=1), jitter=0)

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


class Hashed(TypeDecorator[str]):
    """Not given back as it was given."""

    impl = String(20)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return f"<{value}>"


class Tree(Cached, Base):
    __tablename__ = "trees"
    __cache__ = CachePolicy(YARD, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    asked: Mapped[str | None] = query_expression()
    fruits: Mapped[list[Fruit]] = relationship(order_by="Fruit.id")
    all_fruits: Mapped[set[Fruit]] = relationship(viewonly=True)
    by_kind: Mapped[dict[str, Fruit]] = relationship(
        collection_class=attribute_keyed_dict("kind"), viewonly=True
    )
    sold: Mapped[list[Fruit]] = relationship(
        primaryjoin=lambda: and_(
            Tree.id == foreign(Fruit.tree_id), Fruit.id.in_(select(Sale.fruit_id))
        ),
        viewonly=True,
    )
    buyers: Mapped[list[Buyer]] = relationship(
        secondary=lambda: Base.metadata.tables["fruits"].join(Base.metadata.tables["sales"]),
        primaryjoin=lambda: Tree.id == Base.metadata.tables["fruits"].c.tree_id,
        secondaryjoin=lambda: Buyer.id == Base.metadata.tables["sales"].c.buyer_id,
        viewonly=True,
    )
    ripe: Mapped[list[Fruit]] = relationship(
        primaryjoin=lambda: and_(Tree.id == foreign(Fruit.tree_id), Fruit.ripe_at < func.now()),
        viewonly=True,
    )


class Fruit(Cached, Base):
    __tablename__ = "fruits"
    __cache__ = CachePolicy(YARD, follow_only=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "fruit"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    tree_id: Mapped[int | None] = mapped_column(ForeignKey("trees.id"))
    weight: Mapped[int]
    ripe_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Apple(Fruit):
    __tablename__ = "apples"
    __mapper_args__ = {"polymorphic_identity": "apple"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("fruits.id"), primary_key=True)
    seeds: Mapped[int]


class Buyer(Cached, Base):
    __tablename__ = "buyers"
    __cache__ = CachePolicy(YARD, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    cart: Mapped[Cart | None] = relationship(lazy="joined", back_populates="buyer")
    sales: Mapped[list[Sale]] = relationship(back_populates="buyer")


class Cart(Cached, Base):
    __tablename__ = "carts"
    __cache__ = CachePolicy(YARD, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    buyer_id: Mapped[int] = mapped_column(ForeignKey("buyers.id"))
    buyer: Mapped[Buyer] = relationship(back_populates="cart")


class Sale(Cached, Base):
    __tablename__ = "sales"
    __cache__ = CachePolicy(YARD, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    fruit_id: Mapped[int] = mapped_column(ForeignKey("fruits.id"))
    buyer_id: Mapped[int] = mapped_column(ForeignKey("buyers.id"))
    buyer: Mapped[Buyer] = relationship(back_populates="sales")


class Secret(Cached, Base):
    __tablename__ = "secrets"
    __cache__ = CachePolicy(YARD, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Hashed)


def namesake() -> type[DeclarativeBase]:
    """Another class that is called Fruit, as in another module of the application."""

    class Elsewhere(DeclarativeBase):
        metadata = Base.metadata

    class Fruit(Cached, Elsewhere):
        __tablename__ = "sculptures"
        __cache__ = CachePolicy(YARD, follow_only=True)

        id: Mapped[int] = mapped_column(primary_key=True)
        tree_id: Mapped[int] = mapped_column(ForeignKey("trees.id"))
        artist: Mapped[str] = mapped_column(String(20))

    return Fruit


Sculpture: Any = namesake()
Tree.sculptures = relationship(Sculpture)


@pytest.fixture(scope="module")
def yard_url(servers: Found, template_database: str) -> Iterator[str]:
    """A database with the yard's tables, for all tests here."""
    with scratch_database(servers.database_url, template=template_database) as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        yield url


@pytest.fixture
def yard(yard_url: str) -> Iterator[Engine]:
    """The engine of a database with the yard's rows, and nothing else."""
    engine = create_engine(yard_url)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
    with Session(engine) as session:
        session.add_all([Tree(id=1, name="old"), Tree(id=2, name="young"), Buyer(id=1)])
        session.flush()
        session.add_all(
            [
                Apple(id=1, tree_id=1, weight=1, seeds=5),
                Fruit(id=2, tree_id=1, weight=9),
                Fruit(id=3, tree_id=2, weight=7),
                Cart(id=1, buyer_id=1),
                Sculpture(id=1, tree_id=1, artist="Kim"),
            ]
        )
        session.flush()
        session.add_all([Sale(id=1, fruit_id=1, buyer_id=1), Secret(id=1, text="s")])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis."""
    with patient_cache(redis_url, regions=Regions(YARD)) as made:
        yield made


@pytest.fixture
def sessions(yard: Engine, cache: Cache) -> Iterator[Sessions]:
    """A factory whose sessions the cache serves."""
    factory = sessionmaker(yard)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(yard)


@pytest.fixture
def sql_log(yard: Engine) -> SqlLog:
    """The SQL that the yard's engine sends."""
    log = SqlLog()
    log.follow(yard)
    return log


def along(*options: Any, key: str = "trees:all") -> CachedQuery[Any]:
    """Every tree, with these options."""
    return CachedQuery(YARD, key, select(Tree).options(*options).order_by(Tree.id))


def ids_of(name: str) -> Callable[[Tree], Any]:
    """The ids of the objects in a relationship that is loaded already."""
    return lambda tree: sorted(each.id for each in vars(tree)[name])


ReadOne = Callable[[Tree], Any]
Write = Callable[[Session], object]
Few = aliased(Fruit, select(Fruit).where(Fruit.id.in_(select(Sale.fruit_id))).subquery("few"))

CASES: dict[str, tuple[Any, ReadOne, Write]] = {
    "a SELECT in a relationship's condition": (
        selectinload(Tree.sold),
        ids_of("sold"),
        lambda session: session.add(Sale(id=2, fruit_id=3, buyer_id=1)),
    ),
    "a join in the middle": (
        selectinload(Tree.buyers),
        ids_of("buyers"),
        lambda session: session.add(Sale(id=2, fruit_id=3, buyer_id=1)),
    ),
    "a SELECT in an option's condition": (
        selectinload(Tree.fruits.and_(Fruit.id.in_(select(Sale.fruit_id)))),
        ids_of("fruits"),
        lambda session: session.add(Sale(id=2, fruit_id=3, buyer_id=1)),
    ),
    "an alias of a SELECT": (
        selectinload(Tree.fruits.of_type(Few)),
        ids_of("fruits"),
        lambda session: session.add(Sale(id=2, fruit_id=3, buyer_id=1)),
    ),
    "a subclass's own table": (
        selectinload(Tree.fruits),
        lambda tree: [getattr(each, "seeds", None) for each in vars(tree)["fruits"]],
        lambda session: session.execute(update(Apple).values(seeds=6)),
    ),
    "what the related class loads by itself": (
        selectinload(Tree.buyers),
        lambda tree: [vars(each)["cart"] and each.cart.id for each in vars(tree)["buyers"]],
        lambda session: session.execute(update(Cart).values(id=2)),
    ),
    "a set": (
        selectinload(Tree.all_fruits),
        ids_of("all_fruits"),
        lambda session: session.add(Fruit(id=4, tree_id=2, weight=1)),
    ),
    "a dict": (
        selectinload(Tree.by_kind),
        lambda tree: {kind: each.id for kind, each in vars(tree)["by_kind"].items()},
        lambda session: session.add(Apple(id=4, tree_id=2, weight=1, seeds=1)),
    ),
    "two classes of one name": (
        [selectinload(Tree.fruits), selectinload(Tree.sculptures)],  # type: ignore[attr-defined]
        lambda tree: (ids_of("fruits")(tree), [each.artist for each in vars(tree)["sculptures"]]),
        lambda session: session.execute(update(Sculpture).values(artist="Lee")),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["declared", "on the spot"])
def test_all_that_is_loaded_along_is_followed(
    case: str, how: str, sessions: Sessions, yard: Engine, sql_log: SqlLog
) -> None:
    """The answer is a plain session's before the write and after it, on a miss and on a hit."""
    options, read_one, write = CASES[case]
    options = options if isinstance(options, list) else [options]
    query: Callable[[], Any] = along(*options)
    if how == "on the spot":
        query = lambda: select(Tree).options(cached(YARD), *options).order_by(Tree.id)  # noqa: E731

    def read(factory: Sessions) -> list[Any]:
        with factory() as session:
            return [read_one(tree) for tree in session.scalars(query())]

    seen = []
    for _ in range(2):
        seen.append(read(sessionmaker(yard)))
        assert read(sessions) == seen[-1]
        sql_log.clear()
        assert read(sessions) == seen[-1]
        assert sql_log == []
        with sessions() as session:
            if len(seen) == 1:
                write(session)
            session.commit()
    assert seen[0] != seen[1]


def test_a_parent_stays_narrow() -> None:
    """What its relationships' conditions say of the parent's columns asks for no more of it."""
    statement = select(Tree).where(Tree.id == bindparam("id")).options(selectinload(Tree.fruits))
    query = CachedQuery(YARD, "tree:{id}", statement)
    assert [str(each) for each in query.dependencies] == ["trees.id=:id", "fruits.*", "apples.*"]


CHANGING: dict[str, Any] = {
    "a relationship": lambda: selectinload(Tree.ripe),
    "an option": lambda: selectinload(Tree.fruits.and_(Fruit.ripe_at < func.now())),
    "an alias": lambda: selectinload(
        Tree.fruits.of_type(
            aliased(Fruit, select(Fruit).where(Fruit.ripe_at < func.now()).subquery())
        )
    ),
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_by_itself_is_refused(name: str, sessions: Sessions) -> None:
    """As in the statement itself; with depends_on the author vouches for it."""
    option = CHANGING[name]()
    with pytest.raises(DeclarationError, match=r"now\(\).*depends_on="):
        _ = along(option).dependencies
    with sessions() as session, pytest.raises(DeclarationError, match=r"now\(\)"):
        session.execute(select(Tree).options(cached(YARD), option))
    vouched = CachedQuery(YARD, "t:ripe", select(Tree).options(option), depends_on=(Tree,))
    assert {str(each) for each in vouched.dependencies} >= {"trees.*", "fruits.*"}


UNLIKE: dict[str, tuple[Any, Any, str]] = {
    "conditions": (
        selectinload(Tree.fruits.and_(Fruit.weight > 5)),
        selectinload(Tree.fruits.and_(Fruit.id > 5)),
        "fruits",
    ),
    "values": (
        selectinload(Tree.fruits.and_(Fruit.weight > 5)),
        selectinload(Tree.fruits.and_(Fruit.weight > 8)),
        "fruits",
    ),
    "relationships": (selectinload(Tree.fruits), selectinload(Tree.sold), "sold"),
    "aliases": (
        selectinload(Tree.fruits.of_type(Few)),
        selectinload(Tree.fruits.of_type(aliased(Fruit, select(Fruit).subquery("few")))),
        "fruits",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
@pytest.mark.parametrize("how", ["declared", "on the spot"])
def test_options_tell_entries_apart(name: str, how: str, sessions: Sessions, yard: Engine) -> None:
    """Neither new code nor another statement of the same SQL is served what others loaded along."""
    *options, relation = UNLIKE[name]
    for option in options:
        query: Callable[[], Any] = along(option)
        if how == "on the spot":
            query = lambda: select(Tree).options(cached(YARD), option).order_by(Tree.id)  # noqa: B023, E731
        for _ in range(2):
            with sessionmaker(yard)() as plain, sessions() as session:
                expected = [vars(tree).get(relation) for tree in plain.scalars(query())]
                found = [vars(tree).get(relation) for tree in session.scalars(query())]
                assert [each and [one.id for one in each] for each in found] == [
                    each and [one.id for one in each] for each in expected
                ]


FORBIDDEN: dict[str, tuple[Any, str]] = {
    "an expression": (lambda: with_expression(Tree.asked, Tree.name), r"Tree\.asked"),
    "raiseload": (lambda: raiseload(Tree.fruits), r"raise for Tree\.fruits"),
    "raiseload along": (
        lambda: selectinload(Tree.buyers).raiseload(Buyer.sales),
        r"raise for Tree\.buyers\.Buyer\.sales",
    ),
    "of all": (lambda: raiseload("*"), "name them"),
    "all": (lambda: selectinload("*"), "name them"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_options_that_a_hit_could_not_obey_are_refused(name: str, sessions: Sessions) -> None:
    """A hit must not load what a miss forbids, nor leave out what a miss loads."""
    option, reason = FORBIDDEN[name]
    statement = select(Tree).options(option())
    with sessions() as session:
        with pytest.raises(DeclarationError, match=reason):
            session.execute(CachedQuery(YARD, "trees:odd", statement)())
        with pytest.raises(DeclarationError, match=reason):
            session.execute(statement.options(cached(YARD)))


def test_noload_is_refused(sessions: Sessions) -> None:
    """It leaves relationships empty, which a hit would not."""
    with warnings.catch_warnings(action="ignore", category=SADeprecationWarning):  # by 2.1
        option = noload(Tree.fruits)
    with sessions() as session, pytest.raises(DeclarationError, match="noload for Tree"):
        session.execute(along(option)())


def test_a_union_of_decorated_columns_is_refused(sessions: Sessions, yard: Engine) -> None:
    """Its rows come decorated already, and were so once more; from a subquery they are not."""
    both = union_all(select(Secret.id, Secret.text), select(Secret.id, Secret.text))
    with sessions() as session, pytest.raises(DeclarationError, match=r"'text'.*subquery\(\)"):
        session.execute(CachedQuery(YARD, "secrets:both", both)())
    query = CachedQuery(YARD, "secrets:both", select(both.subquery()))
    for factory in (sessionmaker(yard), sessions, sessions):
        with factory() as session:
            assert session.execute(query()).all() == [(1, "<s>"), (1, "<s>")]


def test_one_bind_at_several_places(sessions: Sessions, sql_log: SqlLog) -> None:
    """On the spot too."""
    one = literal(1)
    twice: Any = (bindparam("x", 1), bindparam("x", 1))
    for first, second in ((one, one), twice):
        for _ in range(2):
            sql_log.clear()
            statement = select(Tree.id).where(or_(Tree.id == first, Tree.id == second + 1))
            with sessions() as session:
                found = session.scalars(statement.options(cached(YARD)).order_by(Tree.id)).all()
                assert found == [1, 2]
        assert sql_log == []
