"""Columns of every type: what comes from the cache is what comes from the database, to the type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, Table, create_engine, insert, inspect, select, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.columns import (
    Base,
    ByColour,
    ByEmail,
    ByNumber,
    ByText,
    ByTime,
    ByUuid,
    Colour,
    Email,
    Wide,
)

Sessions = sessionmaker[Session]
SEOUL = ZoneInfo("Asia/Seoul")

FULL: dict[str, Any] = {
    "boolean": True,
    "big": 2**62,
    "text": "한국어 'quoted' % \x01",
    "real": 0.1,
    "number": Decimal("12345678.9000"),
    "exact": Decimal("1E+30"),
    "as_float": 1.25,
    "uuid": UUID(int=7),
    "uuid_text": str(UUID(int=8)),
    "guid": UUID(int=9),
    "at": datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=SEOUL),
    "naive": datetime(2026, 3, 1, 12, 30, 0, 1),  # noqa: DTZ001
    "day": date(2026, 3, 1),
    "hour": time(23, 59, 59, 999999),
    "zoned_hour": time(1, 2, 3, tzinfo=timezone(timedelta(hours=9))),
    "span": timedelta(days=-3, microseconds=1),
    "native_span": timedelta(days=400, seconds=5),
    "blob": b"\x00\xff",
    "colour": Colour.BLUE,
    "by_value": Colour.RED,
    "size": "L",
    "json": {"a": [1, 2.5, None, {"b": "ü"}]},
    "jsonb": [1, {"x": True}],
    "variant": {"v": 1},
    "numbers": [1, None, 3],
    "nested": [["a", "b"], ["c", "d"]],
    "pair": (1, 2),
    "colours": [Colour.RED, Colour.BLUE],
    "email": Email("Kim@Example.org"),
    "password": "secret",
    "half": 3,
    "point": "SRID=4326;POINT(127 37.5)",
    "place": "SRID=4326;POINT(127.1 37.6)",
}


@pytest.fixture
def tables(database_url: str) -> Iterator[Engine]:
    """An engine in another time zone than this machine's, with the wide tables."""
    zone = {"options": "-c timezone=Asia/Seoul"}
    engine = create_engine(database_url, connect_args=zone)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def served(tables: Engine, cache: Cache) -> Iterator[Sessions]:
    """A factory that the cache serves."""
    factory = sessionmaker(tables)
    cache.attach(factory)
    yield factory
    cache.detach(factory)
    cache.detach(tables)


def columns(row: object) -> dict[str, tuple[type, Any]]:
    """The type and value of each attribute."""
    return {name: (type(value), told(value)) for name in FULL for value in [getattr(row, name)]}


def told(value: Any) -> Any:
    """The value, with its zone, and a geometry by its bytes."""
    if isinstance(value, datetime | time):
        return value.isoformat(), repr(value.tzinfo)
    if type(value).__name__ == "WKBElement":
        return value.desc, value.srid, value.extended
    return repr(value)


@pytest.mark.parametrize("values", [FULL, {}], ids=["full", "nulls"])
def test_every_type(
    served: Sessions, tables: Engine, sql_log: SqlLog, values: dict[str, Any]
) -> None:
    """A hit, a miss and a plain session give equal values of the same types."""
    with served() as session:
        session.add(Wide(id=1, **values))
        session.commit()
    sql_log.follow(tables)
    with sessionmaker(tables)() as session:
        plain = columns(session.get_one(Wide, 1))
    with served() as session:
        assert columns(session.get_one(Wide, 1)) == plain
    sql_log.clear()
    with served() as session:
        row = session.get_one(Wide, 1)
        assert columns(row) == plain
        assert not inspect(row).expired_attributes
    assert sql_log == []


def test_one_way_type(served: Sessions) -> None:
    """A type that hashes what it binds does not hash what was read."""
    with served() as session:
        session.add(Wide(id=1, password="secret"))
        session.commit()
    for _ in range(3):
        with served() as session:
            row = session.get_one(Wide, 1)
            assert row.password == "hash(secret)"


# --- keys


def table_of(class_: type[Any]) -> Table:
    """The table of a class, for Core."""
    found = class_.__table__
    assert isinstance(found, Table)
    return found


def is_cached(served: Sessions, sql_log: SqlLog, class_: type[Any], key: Any) -> bool:
    """Whether a second read of the key asks no database."""
    with served() as session:
        session.get(class_, key)
    sql_log.clear()
    with served() as session:
        session.get(class_, key)
    return sql_log == []


@pytest.fixture
def logged(served: Sessions, tables: Engine, sql_log: SqlLog) -> Sessions:
    """The served factory, its engine in the SQL log."""
    sql_log.follow(tables)
    return served


def test_uuid_as_text(logged: Sessions, sql_log: SqlLog) -> None:
    """Two spellings of a UUID are one row, and one key."""
    low, up = "0000000a-0000-0000-0000-00000000000b", "0000000A00000000000000000000000B"
    with logged() as session:
        assert session.get(ByUuid, up) is None
        session.add(ByUuid(id=up, name="one"))
        session.commit()
    assert is_cached(logged, sql_log, ByUuid, low)
    assert is_cached(logged, sql_log, ByUuid, up)
    with logged() as session:
        session.get_one(ByUuid, low).name = "two"
        session.commit()
    with logged() as session:
        assert session.get_one(ByUuid, up).name == "two"


def test_number_with_digits(logged: Sessions, sql_log: SqlLog) -> None:
    """A number is stored rounded to the column's digits: so is the key that its insert ends."""
    with logged() as session:
        assert session.get(ByNumber, Decimal("1.24")) is None
        assert session.get(ByNumber, Decimal("-0.13")) is None
    with logged() as session:
        session.add(ByNumber(id=Decimal("1.235"), name="one"))
        session.add(ByNumber(id=Decimal("-0.125"), name="two"))
        session.commit()
    with logged() as session:
        assert session.get_one(ByNumber, Decimal("1.24")).name == "one"
        assert session.get_one(ByNumber, Decimal("-0.13")).name == "two"
    assert is_cached(logged, sql_log, ByNumber, Decimal("1.2400"))
    assert not is_cached(logged, sql_log, ByNumber, Decimal("1.2401"))


def test_core_insert_of_another_type(logged: Sessions) -> None:
    """A key of another type than the column's ends whatever it may be in the table."""
    with logged() as session:
        assert session.get(ByNumber, Decimal("2.50")) is None
        session.rollback()
        session.execute(insert(table_of(ByNumber)).values(id=2.5, name="float"))
        session.commit()
    with logged() as session:
        assert session.get_one(ByNumber, Decimal("2.50")).name == "float"


def test_integer_as_text(logged: Sessions) -> None:
    """What the database makes a number of ends that number's memory of a missing row."""
    with logged() as session:
        assert session.get(Wide, 9) is None
        session.rollback()
        session.execute(insert(table_of(Wide)).values(id=" 9", text="nine"))
        session.commit()
    with logged() as session:
        assert session.get_one(Wide, 9).text == "nine"


def test_decorated_key(logged: Sessions, sql_log: SqlLog) -> None:
    """A decorated key is made of what its type binds."""
    with logged() as session:
        assert session.get(ByEmail, Email("Kim@x.org")) is None
    with logged() as session:
        session.add(ByEmail(id=Email("KIM@x.org"), name="one"))
        session.commit()
    with logged() as session:
        found = session.get_one(ByEmail, Email("kim@X.org"))
        assert (found.name, found.id, type(found.id)) == ("one", "kim@x.org", Email)
    assert is_cached(logged, sql_log, ByEmail, Email("kim@x.org"))


def test_enum_key(logged: Sessions, sql_log: SqlLog) -> None:
    """A member is a key; its name as a string goes to the database."""
    with logged() as session:
        assert session.get(ByColour, Colour.RED) is None
    with logged() as session:
        session.execute(insert(table_of(ByColour)).values(id="RED", name="one"))
        session.commit()
    with logged() as session:
        assert session.get_one(ByColour, Colour.RED).name == "one"
    assert is_cached(logged, sql_log, ByColour, Colour.RED)


def test_instant_key(logged: Sessions, sql_log: SqlLog) -> None:
    """An instant is one key in every zone; a time without a zone is the database's to place."""
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    naive = datetime(2026, 3, 1, 21)  # noqa: DTZ001  noon in Greenwich is 21:00 in Seoul
    with logged() as session:
        assert session.get(ByTime, noon) is None
        session.rollback()
        session.execute(insert(table_of(ByTime)).values(id=naive, name="one"))
        session.commit()
    with logged() as session:
        assert session.get_one(ByTime, noon.astimezone(SEOUL)).name == "one"
    assert is_cached(logged, sql_log, ByTime, noon)
    assert not is_cached(logged, sql_log, ByTime, naive)


def test_trailing_blanks(logged: Sessions) -> None:
    """varchar(n) drops blanks beyond its length: the key of what is stored is ended."""
    with logged() as session:
        assert session.get(ByText, "x" * 20) is None
        session.rollback()
        session.execute(insert(table_of(ByText)).values(id="x" * 20 + "  ", name="one"))
        session.commit()
    with logged() as session:
        assert session.get_one(ByText, "x" * 20).name == "one"


@pytest.mark.parametrize(
    "key", ["a:b", "a%3Ab", "{a}", "a b", "", "~", "ㅎ\u2028", "?a=1&b", "x\\'\""]
)
def test_text_in_keys(logged: Sessions, sql_log: SqlLog, redis_log: RedisLog, key: str) -> None:
    """Whatever a text key holds, its row is cached under its own key, and followed."""
    with logged() as session:
        session.add(ByText(id=key, name="one"))
        session.commit()
    assert is_cached(logged, sql_log, ByText, key)
    with logged() as session:
        session.get_one(ByText, key).name = "two"
        session.commit()
    with logged() as session:
        assert session.get_one(ByText, key).name == "two"
        assert session.scalars(select(ByText).where(ByText.id == key)).one().name == "two"


def test_long_text_key(logged: Sessions, sql_log: SqlLog) -> None:
    """Ten thousand bytes of key are read and remembered as missing."""
    assert is_cached(logged, sql_log, ByText, "ㅎ" * 3400)


def test_wider_equality_than_declared(logged: Sessions, tables: Engine, sql_log: SqlLog) -> None:
    """A column that the database compares more widely than declared is never stored twice."""
    with tables.begin() as connection:
        connection.execute(
            text(
                "create collation wide"
                " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        )
        connection.execute(text("alter table by_text alter id type varchar(20) collate wide"))
    tables.dispose()
    with logged() as session:
        session.add(ByText(id="Kim", name="one"))
        session.commit()
    assert not is_cached(logged, sql_log, ByText, "KIM")
    assert is_cached(logged, sql_log, ByText, "Kim")
