"""What a declaration can say wrong, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    Interval,
    PickleType,
    String,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT, INET, TIMESTAMP
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    configure_mappers,
    mapped_column,
    query_expression,
    registry,
    sessionmaker,
)

from cachedorm import Cached, CachePolicy, Region, Regions
from cachedorm.declare.policies.shape import entity_shape
from cachedorm.errors import DeclarationError
from tests.fixtures.patience import patient_cache

MINE = Region("mine", db=3, ttl=60)
REGIONS = Regions(MINE, taken={8: "rate limits"}, reserved=range(10, 16))


_made: list[registry] = []


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test declared is no model of the tests after it."""
    yield
    for each in _made:
        each.dispose()
    _made.clear()


def model(policy: CachePolicy, name: str = "Thing", **columns: Any) -> type[Any]:
    """A class of its own base with this policy, configured; a DeclarationError leaves nothing."""

    class Base(DeclarativeBase):
        __cache_regions__ = REGIONS

    _made.append(Base.registry)
    body: dict[str, Any] = {
        "__tablename__": "things",
        "__cache__": policy,
        "__module__": __name__,
        "id": mapped_column(Integer, primary_key=True),
        **columns,
    }
    made = type(name, (Cached, Base), body)
    try:
        configure_mappers()
    except Exception:
        Base.registry.dispose()
        raise
    return made


def refused(policy: Callable[[], CachePolicy], says: str, **columns: Any) -> None:
    """The declaration is refused with these words, as a ValueError too."""
    with pytest.raises(DeclarationError, match=says) as told:
        model(policy(), **columns)
    assert isinstance(told.value, ValueError)


def keyed(key: str | None = "thing:{id}", **settings: Any) -> Callable[[], CachePolicy]:
    """A policy with this key."""
    return lambda: CachePolicy(settings.pop("region", MINE), key=key, **settings)


REGION_FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"ttl": 0},
        r"Region\('new'\): ttl=0 is not positive; give a number of seconds or a timedelta",
    ),
    ({"ttl": -1.5}, r"ttl=-1.5 is not positive"),
    ({"ttl": timedelta(0)}, r"ttl=datetime.timedelta\(0\) is not positive"),
    ({"ttl": "1h"}, r"ttl='1h' is not a duration; give a number of seconds or a timedelta"),
    ({"negative_ttl": 0}, "negative_ttl=0 is not positive"),
    ({"db": -1}, "db=-1 is not a Redis database; give its number, 0 or more"),
    ({"db": "2"}, "db='2' is not a Redis database"),
    ({"name": ""}, "the name must be a non-empty string"),
    ({"jitter": 0.5}, "jitter=0.5 is not between 0 and 0.05"),
    ({"evictable": "no"}, "evictable='no'; give True or False"),
    ({"wait": -1}, "wait=-1 is negative; give 0 or more"),
]


@pytest.mark.parametrize(("settings", "says"), REGION_FAULTS)
def test_region(settings: dict[str, Any], says: str) -> None:
    """A region whose settings cannot work is refused where it is made."""
    with pytest.raises(DeclarationError, match=says):
        Region(**{"name": "new", "db": 4, "ttl": 60, **settings})


def test_region_twice() -> None:
    """One name with two settings is refused; the same twice is one."""
    other = Region("mine", db=4, ttl=60)
    with pytest.raises(DeclarationError, match="'mine' is declared twice with different settings"):
        Regions(MINE, other)
    assert len(Regions(MINE, Region("mine", db=3, ttl=60))) == 1
    refused(keyed(region=other), r"Thing.__cache__: region 'mine' is declared twice .*; keep one")


def test_unknown_region() -> None:
    """A policy in a region that the application does not have says which it has."""
    refused(
        keyed(region=Region("other", db=4, ttl=60)),
        r"Thing.__cache__: region 'other' is unknown; known are mine; add it to Regions",
    )


@pytest.mark.parametrize(
    ("db", "says"),
    [
        (12, r"region 'new': database 12 is reserved \(10, 11, 12, 13, 14, 15\); take another"),
        (8, r"region 'new': database 8 is taken by rate limits; take another"),
    ],
)
def test_database_of_others(db: int, says: str) -> None:
    """Databases that are reserved, or that others use, are refused."""
    refused(keyed(region=Region("new", db=db, ttl=60)), says)


def test_region_twice_without_a_list(redis_url: str, library: Any) -> None:
    """Without Regions, a Cache refuses a second meaning of a region's name when it meets it."""

    class Base(DeclarativeBase):
        pass

    def make(name: str, region: Region) -> type[Any]:
        body = {
            "__tablename__": name,
            "__cache__": CachePolicy(region, key=name + ":{id}"),
            "id": mapped_column(Integer, primary_key=True),
            "__module__": __name__,
        }
        return type(name, (Cached, Base), body)

    one = make("first", Region("same", db=3, ttl=60))
    two = make("second", Region("same", db=4, ttl=60))
    Base.metadata.create_all(library)
    with patient_cache(redis_url) as cache:
        factory: sessionmaker[Session] = sessionmaker(library)
        cache.attach(factory)
        with factory() as session:
            session.get(one, 1)
            with pytest.raises(DeclarationError, match="'same' is declared twice"):
                session.get(two, 1)
        cache.detach(factory)
        cache.detach(library)
    Base.registry.dispose()


POLICY_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"ttl": 0}, "CachePolicy: ttl=0 is not positive"),
    ({"ttl": -5}, "CachePolicy: ttl=-5 is not positive"),
    ({"negative_ttl": 0}, "CachePolicy: negative_ttl=0 is not positive"),
    ({"on_write": "through"}, 'on_write=.through.; give "invalidate" .* or "write_through"'),
    ({"exclude": "name"}, "exclude='name' is a string; give a tuple of names"),
    (
        {"expires_at": "ends"},
        r"Thing.__cache__: expires_at='ends' names no attribute of Thing; it has: id",
    ),
    ({"expires_at": 60}, "CachePolicy: expires_at=60; give the name of a datetime attribute"),
    ({"expires_at": "ends", "ttl": 60}, "ttl=60 and expires_at='ends' exclude each other"),
    (
        {"ttl": "ends"},
        "CachePolicy: ttl='ends' is a string; for a column that states the end of life write"
        " expires_at='ends'",
    ),
    ({"follow_only": True}, "follow_only=True caches no rows, so key='thing:{id}' has no use"),
    (
        {"key": "thing:all"},
        "key 'thing:all' names no attribute, so all rows would share one entry; name the primary",
    ),
    ({"expires_at": "id"}, r"expires_at='id' must be a datetime attribute; name one, or give ttl"),
    ({"exclude": ("nam",)}, r"exclude='nam' names no attribute of Thing; it has: id"),
    ({"exclude": ("id",)}, r"exclude='id' cannot be left out: the key, the primary key, .* stored"),
]


@pytest.mark.parametrize(("settings", "says"), POLICY_FAULTS)
def test_policy(settings: dict[str, Any], says: str) -> None:
    """A policy that cannot work is refused where it is made, or when mappers configure."""
    refused(keyed(**settings), says)


def test_no_region() -> None:
    """A policy's region is a Region."""
    with pytest.raises(DeclarationError, match="region must be a Region, got 'mine'"):
        CachePolicy("mine", key="x:{id}")  # type: ignore[arg-type]


def test_no_policy() -> None:
    """What stands at __cache__ is a CachePolicy."""
    refused(lambda: "my:{id}", r"Thing.__cache__ must be a CachePolicy, got 'my:{id}'")  # type: ignore[arg-type, return-value]


def test_key_without_column() -> None:
    """A template that names no attribute says which there are."""
    refused(
        keyed("book:{isbm}"),
        r"Thing.__cache__: key 'book:{isbm}' names no attribute of Thing: 'isbm'; it has: id, isbn",
        isbn=mapped_column(String(20), unique=True),
    )


def code(**settings: Any) -> dict[str, Any]:
    """A text column to make a key of."""
    return {"code": mapped_column(String(20), **settings)}


def test_key_that_is_not_unique() -> None:
    """A template of columns that do not tell rows apart is refused."""
    says = r"code is neither the primary key of things nor unique; name unique columns or add"
    refused(keyed("thing:{code}"), says, **code())
    refused(keyed("thing:{code}"), says, **code(index=True))
    refused(keyed("thing:{id}:{code}"), "id, code is neither", **code(unique=True))


@pytest.mark.parametrize(
    ("what", "unique"),
    [
        ("column", {}),
        ("constraint", {"__table_args__": (UniqueConstraint("code"),)}),
        ("index", {"__table_args__": (Index("one", "code", unique=True),)}),
    ],
)
def test_key_that_is_unique(what: str, unique: dict[str, Any]) -> None:
    """A unique column, constraint or index makes a key."""
    assert model(keyed("thing:{code}")(), **code(unique=what == "column"), **unique)


@pytest.mark.parametrize(
    "index",
    [
        Index("some", "code", unique=True, postgresql_where=text("id > 5")),
        Index("folded", func.lower(text("code")), unique=True),
    ],
    ids=["partial", "expression"],
)
def test_index_of_some_rows(index: Index) -> None:
    """A partial unique index, or one over an expression, does not tell all rows apart."""
    refused(keyed("thing:{code}"), "is neither", **code(), __table_args__=(index,))


KEYS: list[tuple[Any, str]] = [
    (CITEXT(), "its type CITEXT may equate values that Python does not"),
    (CHAR(5), "its type CHAR may equate values that Python does not"),
    (String(5, collation="case_insensitive"), "its collation 'case_insensitive' may equate values"),
]


@pytest.mark.parametrize(("type_", "says"), KEYS)
def test_key_of_wide_equality(type_: Any, says: str) -> None:
    """A key column that the database compares more widely than Python is refused."""
    column = mapped_column(type_, unique=True)
    refused(keyed("thing:{code}"), says + ".*; key by another unique column", code=column)


@pytest.mark.parametrize("annotation", ["float", "dict", "timedelta", "list", "timestamp"])
def test_key_without_text(annotation: str) -> None:
    """A key column whose values have no single text is refused."""
    types: dict[str, Any] = {
        "float": Float(),
        "dict": JSON(),
        "timedelta": Interval(),
        "list": ARRAY(Integer),
        "timestamp": TIMESTAMP(precision=3),
    }
    column = mapped_column(types[annotation], unique=True)
    refused(keyed("thing:{code}"), "but its type .* (no single exact text|rounds)", code=column)


@pytest.mark.parametrize("type_", [PickleType(), INET()], ids=["pickle", "inet"])
def test_type_that_cannot_be_stored(type_: Any) -> None:
    """A column that no entry can hold is named, with what to do; excluded it is welcome."""
    refused(
        keyed(),
        r"Thing.__cache__: attribute 'odd' has type .*, which cannot be stored exactly; name it in"
        r" exclude \(exclude=\('odd',\)\), or give it a type of these: bool, bytes, .*, geometry",
        odd=mapped_column(type_, nullable=True),
    )
    assert model(keyed(exclude=("odd",))(), odd=mapped_column(type_, nullable=True))


def test_concrete_inheritance() -> None:
    """Concrete inheritance would give rows of several tables one key."""
    base = model(CachePolicy(MINE, follow_only=True), "Base")
    body = {
        "__tablename__": "others",
        "__cache__": base.__cache__,
        "__mapper_args__": {"concrete": True},
        "__module__": __name__,
        "id": mapped_column(Integer, primary_key=True),
    }
    body["__cache__"] = CachePolicy(MINE, key="thing:{id}")
    type("Other", (base,), body)
    with pytest.raises(DeclarationError, match=r"(concrete inheritance|differs from)"):
        configure_mappers()
    base.registry.dispose()


def test_two_policies_in_a_hierarchy() -> None:
    """Classes that share rows share a policy."""
    base = model(
        keyed()(), kind=mapped_column(String(5)), __mapper_args__={"polymorphic_on": "kind"}
    )
    body = {"__cache__": CachePolicy(MINE, key="sub:{id}"), "__module__": __name__}
    type("Sub", (base,), {**body, "__mapper_args__": {"polymorphic_identity": "s"}})
    says = "Sub.__cache__ differs from Thing.__cache__, whose rows it shares; declare one policy"
    with pytest.raises(DeclarationError, match=says):
        configure_mappers()
    base.registry.dispose()


@pytest.mark.parametrize("own_table", [True, False])
def test_write_through_of_several_classes(own_table: bool) -> None:
    """Write-through needs the whole row in one table, and to know its class."""
    body: dict[str, Any] = {"kind": mapped_column(String(5))}
    if own_table:
        body["__mapper_args__"] = {"polymorphic_on": "kind", "polymorphic_identity": "t"}
        says = "write_through needs a mapper of one table and one class; use on_write="
        refused(keyed(on_write="write_through"), says, **body)
        return
    base = model(keyed(on_write="write_through")())
    sub = {
        "__tablename__": "subs",
        "__module__": __name__,
        "id": mapped_column(ForeignKey("things.id"), primary_key=True),
    }
    type("Sub", (base,), sub)
    with pytest.raises(DeclarationError, match=r"Sub.__cache__: write_through needs a mapper"):
        configure_mappers()
    base.registry.dispose()


def test_computed_elsewhere() -> None:
    """A column computed from other rows, or from the clock, is refused; from its own row not."""

    class Other(DeclarativeBase):
        pass

    class Part(Other):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing_id: Mapped[int]

    refused(
        keyed(),
        r"'parts' is computed from a query, and writes to its rows do not .*; name it in",
        parts=column_property(select(func.count(Part.id)).scalar_subquery()),
    )
    refused(
        keyed(),
        r"'age' is computed from now\(\), which may change while the row does not",
        age=column_property(func.now()),
    )
    text_ = mapped_column(String(20))
    assert model(
        keyed()(), title=text_, upper=column_property(func.upper(text_.column, type_=String))
    )
    assert model(keyed()(), asked=query_expression())


def test_mapped_to_a_query() -> None:
    """Rows of a query have no table that writers write."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)

    body = {"__table__": select(Thing).subquery(), "__cache__": keyed()(), "__module__": __name__}
    type("Some", (Cached, Base), body)
    with pytest.raises(DeclarationError, match="Some is mapped to a query"):
        configure_mappers()
    Base.registry.dispose()


def test_no_key_is_fine() -> None:
    """A policy that only follows writes asks nothing of the columns."""
    policy = CachePolicy(MINE, follow_only=True)
    assert template_of(model(policy, odd=mapped_column(PickleType, nullable=True))) is None


def template_of(class_: Any) -> str | None:
    """The key template under which rows of the class are cached."""
    shape = entity_shape(class_.__mapper__)
    assert shape is not None
    return None if shape.template is None else shape.template.text


def test_default_key() -> None:
    """A policy without a key caches under the table and its primary key, by attribute names."""
    policy = CachePolicy(MINE)
    assert template_of(model(policy)) == "things:{id}"
    assert template_of(model(policy, __table_args__={"schema": "crm"})) == "crm.things:{id}"
    two: dict[str, Any] = {"part": mapped_column("part_no", Integer, primary_key=True)}
    assert template_of(model(policy, **two)) == "things:{id}:{part}"


def test_default_key_of_a_subclass() -> None:
    """A subclass shares the key of the class whose rows it shares."""
    base = model(CachePolicy(MINE))
    sub = {
        "__tablename__": "subs",
        "__module__": __name__,
        "id": mapped_column(ForeignKey("things.id"), primary_key=True),
    }
    made = type("Sub", (base,), sub)
    configure_mappers()
    assert template_of(made) == "things:{id}"


def test_default_key_that_cannot_be() -> None:
    """A default key that cannot work says how to name another."""
    refused(
        lambda: CachePolicy(MINE),
        r"the default key '~things:{id}' cannot be used \(.*\); give key=",
        __tablename__="~things",
    )


def test_row_with_its_own_end() -> None:
    """A datetime column may say how long a row is kept."""
    assert model(keyed(expires_at="ends")(), ends=mapped_column(DateTime))


def test_mixin_without_policy() -> None:
    """A mapped class with the mixin says where it is cached; one without a table need not."""
    refused(lambda: None, "Thing has the Cached mixin but no __cache__; write __cache__ = ")  # type: ignore[arg-type, return-value]


def test_policy_without_mixin() -> None:
    """A policy that no read would look at is refused."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        __cache__ = CachePolicy(MINE)
        id: Mapped[int] = mapped_column(primary_key=True)

    _made.append(Base.registry)
    says = r"Thing has __cache__ but not the Cached mixin, .*; write class Thing\(Cached, ...\)"
    with pytest.raises(DeclarationError, match=says):
        configure_mappers()


def test_abstract_mixin() -> None:
    """An abstract base with the mixin declares nothing itself."""

    class Base(Cached, DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        __cache__ = CachePolicy(MINE)
        id: Mapped[int] = mapped_column(primary_key=True)

    _made.append(Base.registry)
    configure_mappers()
    assert template_of(Thing) == "things:{id}"
