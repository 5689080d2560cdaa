"""A table with a column of every kind that an entry can hold, and keys of many types."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from geoalchemy2 import Geography, Geometry
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    Float,
    Integer,
    Interval,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cachedorm import Cached, CachePolicy
from tests.support.orm.library import SHELF


class Base(DeclarativeBase):
    """Apart from the library: a wide table that few tests need."""


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Email(str):
    """What the attribute holds; the database holds lower-case text."""

    __slots__ = ()


class EmailType(TypeDecorator[Email]):
    """Lower-cases on the way in, wraps on the way out."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(value).lower()

    def process_result_value(self, value: Any, dialect: Dialect) -> Email | None:
        return None if value is None else Email(value)


class Hashed(TypeDecorator[str]):
    """A one-way type: what is bound is not what was read."""

    impl = String(100)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else f"hash({value})"


class Halved(TypeDecorator[Decimal]):
    """Reads in its own way, binds as it is given."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else Decimal(value) / 2


class Guid(TypeDecorator[UUID]):
    """SQLAlchemy's old recipe: another type on every database."""

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Uuid())
        return dialect.type_descriptor(String(36))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or isinstance(value, UUID) else UUID(value)


class Wide(Cached, Base):
    """A column of every kind."""

    __tablename__ = "wide"
    __cache__ = CachePolicy(SHELF, key="wide:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    boolean: Mapped[bool | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str | None]
    real: Mapped[float | None] = mapped_column(Float)
    number: Mapped[Decimal | None] = mapped_column(Numeric(20, 4))
    exact: Mapped[Decimal | None] = mapped_column(Numeric)
    as_float: Mapped[float | None] = mapped_column(Numeric(8, 2, asdecimal=False))
    uuid: Mapped[UUID | None]
    uuid_text: Mapped[str | None] = mapped_column(Uuid(as_uuid=False))
    guid: Mapped[UUID | None] = mapped_column(Guid)
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    naive: Mapped[datetime | None] = mapped_column(DateTime)
    day: Mapped[date | None]
    hour: Mapped[time | None]
    zoned_hour: Mapped[time | None] = mapped_column(Time(timezone=True))
    span: Mapped[timedelta | None] = mapped_column(Interval)
    native_span: Mapped[timedelta | None] = mapped_column(INTERVAL)
    blob: Mapped[bytes | None]
    colour: Mapped[Colour | None]
    by_value: Mapped[Colour | None] = mapped_column(
        Enum(Colour, values_callable=lambda e: [m.value for m in e], native_enum=False)
    )
    size: Mapped[str | None] = mapped_column(Enum("S", "L", name="size"))
    json: Mapped[Any | None] = mapped_column(JSON)
    jsonb: Mapped[Any | None] = mapped_column(JSONB)
    variant: Mapped[Any | None] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
    numbers: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    nested: Mapped[list[list[str]] | None] = mapped_column(ARRAY(String, dimensions=2))
    pair: Mapped[tuple[int, ...] | None] = mapped_column(ARRAY(Integer, as_tuple=True))
    colours: Mapped[list[Colour] | None] = mapped_column(ARRAY(Enum(Colour, name="colours")))
    email: Mapped[Email | None] = mapped_column(EmailType)
    password: Mapped[str | None] = mapped_column(Hashed)
    half: Mapped[Any | None] = mapped_column(Halved)
    point: Mapped[Any | None] = mapped_column(Geometry("POINT", srid=4326))
    place: Mapped[Any | None] = mapped_column(Geography("POINT", srid=4326))


class ByUuid(Cached, Base):
    __tablename__ = "by_uuid"
    __cache__ = CachePolicy(SHELF, key="by_uuid:{id}")

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    name: Mapped[str | None]


class ByNumber(Cached, Base):
    __tablename__ = "by_number"
    __cache__ = CachePolicy(SHELF, key="by_number:{id}")

    id: Mapped[Decimal] = mapped_column(Numeric(10, 2), primary_key=True, autoincrement=False)
    name: Mapped[str | None]


class ByEmail(Cached, Base):
    __tablename__ = "by_email"
    __cache__ = CachePolicy(SHELF, key="by_email:{id}")

    id: Mapped[Email] = mapped_column(EmailType, primary_key=True)
    name: Mapped[str | None]


class ByColour(Cached, Base):
    __tablename__ = "by_colour"
    __cache__ = CachePolicy(SHELF, key="by_colour:{id}")

    id: Mapped[Colour] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class ByTime(Cached, Base):
    __tablename__ = "by_time"
    __cache__ = CachePolicy(SHELF, key="by_time:{id}")

    id: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    name: Mapped[str | None]


class ByText(Cached, Base):
    __tablename__ = "by_text"
    __cache__ = CachePolicy(SHELF, key="by_text:{id}")

    id: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str | None]
