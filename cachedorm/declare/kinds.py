"""From SQLAlchemy's column types to the kinds of value that an entry can hold exactly."""

from __future__ import annotations

from typing import Any

from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeDecorator, TypeEngine

from cachedorm.store.codec import Kind, array_kind, enum_kind, geometry_kind

# Order matters where one type is a subclass of another (Enum is a String).
_SIMPLE: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
    (sqltypes.Boolean, Kind.BOOL),
    (sqltypes.Integer, Kind.INT),
    (sqltypes.String, Kind.STR),
    (sqltypes.DateTime, Kind.DATETIME),
    (sqltypes.Date, Kind.DATE),
    (sqltypes.Time, Kind.TIME),
    (sqltypes.Interval, Kind.TIMEDELTA),
    (sqltypes.LargeBinary, Kind.BYTES),
    (sqltypes.JSON, Kind.JSON),
)
_NEVER = (sqltypes.PickleType, sqltypes.NullType)
# Equality wider than Python's would let one row have two keys.
_WIDE = ("CITEXT", "CHAR", "NCHAR", "BPCHAR")
_EXACT_COLLATIONS = frozenset({"C", "POSIX", "ucs_basic", "C.UTF-8", "C.utf8", "pg_c_utf8"})


def kind_of(type_: TypeEngine[Any]) -> Kind | None:
    """The kind that stores values of this type exactly, or None if none does.

    A TypeDecorator is stored as the value it binds, so its kind is its implementation's.
    """
    if isinstance(type_, _NEVER):
        return None
    if isinstance(type_, sqltypes.Interval):  # a TypeDecorator in SQLAlchemy, native in PostgreSQL
        return Kind.TIMEDELTA
    if isinstance(type_, TypeDecorator):
        return kind_of(type_.impl_instance)
    if isinstance(type_, sqltypes.Enum):
        return Kind.STR if type_.enum_class is None else enum_kind(type_.enum_class)
    if isinstance(type_, sqltypes.Uuid):
        return Kind.UUID if type_.as_uuid else Kind.STR
    if isinstance(type_, sqltypes.Numeric | sqltypes.Float):  # no subclass of Numeric in 2.1
        return Kind.DECIMAL if type_.asdecimal else Kind.FLOAT
    if isinstance(type_, sqltypes.ARRAY):
        item = kind_of(type_.item_type)
        plain_item = not isinstance(type_.item_type, TypeDecorator)
        return array_kind(item, type_.dimensions) if item is not None and plain_item else None
    if _is_geometry(type_):
        return geometry_kind()
    for class_, kind in _SIMPLE:
        if isinstance(type_, class_):
            return kind
    return None


def decorator_of(type_: TypeEngine[Any]) -> TypeDecorator[Any] | None:
    """The decorator that turns stored values into the attribute's, if there is one."""
    if isinstance(type_, TypeDecorator) and not isinstance(type_, sqltypes.Interval):
        return type_
    return None


def why_no_key(type_: TypeEngine[Any]) -> str | None:
    """Why a column of this type cannot be part of a key or a tag, or None if it can."""
    bound = decorator_of(type_)
    inner = bound.impl_instance if bound is not None else type_
    name = inner.__visit_name__.upper()
    if name in _WIDE:
        return f"its type {name} finds rows that Python's == would not"
    collation = getattr(inner, "collation", None)
    if collation is not None and collation not in _EXACT_COLLATIONS:
        return f"its collation {collation!r} may find rows that Python's == would not"
    kind = kind_of(inner)
    if kind is None or kind in _UNKEYED or not isinstance(kind, Kind):
        return f"its type {inner!r} has no single exact text"
    return None


_UNKEYED = frozenset({Kind.FLOAT, Kind.JSON, Kind.TIMEDELTA, Kind.TIME})


def _is_geometry(type_: TypeEngine[Any]) -> bool:
    # By name, so that geoalchemy2 is only needed by those who use it.
    classes = {f"{class_.__module__}.{class_.__name__}" for class_ in type(type_).__mro__}
    return "geoalchemy2.types._GISType" in classes
