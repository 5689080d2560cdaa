"""The kinds of values that a row may hold: a closed set, independent of SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final
from uuid import UUID

from cachedorm.errors import DeclarationError


@dataclass(frozen=True, slots=True, repr=False)
class Kind:
    """One kind of column; ``str(kind)`` is stable text for a fingerprint.

    The plain ones are ``Kind.INT`` and so on; the others are made by ``enum_kind``,
    ``array_kind`` and ``geometry_kind``. Every kind also holds None.
    """

    name: str
    enum: type[Enum] | None = None
    item: Kind | None = None
    dimensions: int | None = None
    as_tuple: bool = False

    # Set below; printers of dataclasses that look at annotations would go round in circles.
    if TYPE_CHECKING:
        INT: ClassVar[Kind]
        FLOAT: ClassVar[Kind]
        STR: ClassVar[Kind]
        BOOL: ClassVar[Kind]
        BYTES: ClassVar[Kind]
        UUID: ClassVar[Kind]
        DECIMAL: ClassVar[Kind]
        DATETIME: ClassVar[Kind]
        DATE: ClassVar[Kind]
        TIME: ClassVar[Kind]
        TIMEDELTA: ClassVar[Kind]
        JSON: ClassVar[Kind]
        SIMPLE: ClassVar[tuple[Kind, ...]]

    def __str__(self) -> str:
        if self.enum is not None:
            return f"{self.name}({self.enum.__qualname__})"
        if self.item is not None:
            container = "tuple" if self.as_tuple else "list"
            return f"{self.name}({self.item},{self.dimensions},{container})"
        return self.name

    def __repr__(self) -> str:
        return f"<Kind {self}>"


Kind.INT = Kind("int")
Kind.FLOAT = Kind("float")
Kind.STR = Kind("str")
Kind.BOOL = Kind("bool")
Kind.BYTES = Kind("bytes")
Kind.UUID = Kind("uuid")
Kind.DECIMAL = Kind("decimal")
Kind.DATETIME = Kind("datetime")
Kind.DATE = Kind("date")
Kind.TIME = Kind("time")
Kind.TIMEDELTA = Kind("timedelta")
Kind.JSON = Kind("json")
Kind.SIMPLE = (
    Kind.INT,
    Kind.FLOAT,
    Kind.STR,
    Kind.BOOL,
    Kind.BYTES,
    Kind.UUID,
    Kind.DECIMAL,
    Kind.DATETIME,
    Kind.DATE,
    Kind.TIME,
    Kind.TIMEDELTA,
    Kind.JSON,
)


def enum_kind(enum: type[Enum]) -> Kind:
    """Members of one Enum class, kept by name: a renamed member is a miss, not a wrong one."""
    return Kind("enum", enum=enum)


def array_kind(item: Kind, dimensions: int | None = None, *, as_tuple: bool = False) -> Kind:
    """Lists (or tuples) of one kind, nested as deep as the value is.

    PostgreSQL does not hold a column to its declared dimensions, so neither does this; they
    only tell the array from its items where the items are JSON lists themselves.
    """
    if item.item is not None:
        raise DeclarationError("an array of arrays: give the inner item and the dimensions")
    return Kind("array", item=item, dimensions=dimensions, as_tuple=as_tuple)


def geometry_kind() -> Kind:
    """GeoAlchemy2's WKBElement; needs the ``geo`` extra."""
    return Kind("geometry")


_FOR_PYTHON: Final[dict[type, Kind]] = {
    int: Kind.INT,
    float: Kind.FLOAT,
    str: Kind.STR,
    bool: Kind.BOOL,
    bytes: Kind.BYTES,
    UUID: Kind.UUID,
    Decimal: Kind.DECIMAL,
    datetime: Kind.DATETIME,
    date: Kind.DATE,
    time: Kind.TIME,
    timedelta: Kind.TIMEDELTA,
    dict: Kind.JSON,
}


def kind_for_python(python_type: type) -> Kind | None:
    """The kind that holds exactly this Python type, or None if it must be given explicitly."""
    known = _FOR_PYTHON.get(python_type)
    if known is not None:
        return known
    return enum_kind(python_type) if issubclass(python_type, Enum) else None
