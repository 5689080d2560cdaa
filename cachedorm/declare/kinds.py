"""The kinds in which entries store the values of SQLAlchemy's column types exactly."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import sqltypes
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
    (sqltypes._AbstractInterval, Kind.TIMEDELTA),
    (sqltypes.LargeBinary, Kind.BYTES),
    (sqltypes.JSON, Kind.JSON),
)
# Types that equate more values than Python does: one row would have two keys.
_WIDE = ("CITEXT", "CHAR", "NCHAR", "BPCHAR")
_EXACT_COLLATIONS = frozenset({"C", "POSIX", "ucs_basic", "C.UTF-8", "C.utf8", "pg_c_utf8"})
_KEYED = frozenset(
    {Kind.BOOL, Kind.INT, Kind.STR, Kind.DATETIME, Kind.DATE, Kind.BYTES, Kind.UUID, Kind.DECIMAL}
)
# Declarations are checked before any database is known; most are for PostgreSQL.
_REFERENCE: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def raw_type(type_: TypeEngine[Any], dialect: Dialect = _REFERENCE) -> TypeEngine[Any]:
    """The type that this database uses, without variants and TypeDecorators."""
    found = type_._variant_mapping.get(dialect.name, type_)
    decorator = decorator_of(found)
    return found if decorator is None else decorator.load_dialect_impl(dialect)


def kind_of(type_: TypeEngine[Any], dialect: Dialect = _REFERENCE) -> Kind | None:
    """The kind that stores values of this type exactly, or None if none does.

    Of a TypeDecorator's values, entries store what the database returns.
    """
    decorator = decorator_of(type_._variant_mapping.get(dialect.name, type_))
    if decorator is not None and _reads_in_its_own_way(decorator):
        return None
    raw = raw_type(type_, dialect)
    return None if decorator_of(raw) is not None else _kind_of_raw(raw, dialect)


def decorator_of(type_: TypeEngine[Any]) -> TypeDecorator[Any] | None:
    """The decorator that turns stored values into the attribute's, if there is one."""
    # Interval is a TypeDecorator in SQLAlchemy, native in PostgreSQL, and always a timedelta.
    if isinstance(type_, TypeDecorator) and not isinstance(type_, sqltypes.Interval):
        return type_
    return None


def why_no_key(type_: TypeEngine[Any]) -> str | None:
    """Why a column of this type cannot be part of a key or a tag, or None if it can."""
    inner = raw_type(type_)
    name = inner.__visit_name__.upper()
    if name in _WIDE:
        return f"its type {name} may equate values that Python does not"
    collation = getattr(inner, "collation", None)
    if collation is not None and collation not in _EXACT_COLLATIONS:
        return f"its collation {collation!r} may equate values that Python does not"
    if type_._has_bind_expression:
        return f"its type {type_!r} compares values that SQL computes"
    kind = kind_of(type_)
    if kind is None or (kind not in _KEYED and kind.enum is None):
        return f"its type {inner!r} has no single exact text"
    if kind is Kind.DATETIME and getattr(inner, "precision", None) is not None:
        return f"its type {inner!r} rounds what it is given"
    return None


def _kind_of_raw(type_: TypeEngine[Any], dialect: Dialect) -> Kind | None:
    if isinstance(type_, sqltypes.PickleType | sqltypes.NullType):
        return None
    if isinstance(type_, sqltypes.Enum):
        return Kind.STR if type_.enum_class is None else enum_kind(type_.enum_class)
    if isinstance(type_, sqltypes.Uuid):
        return Kind.UUID if type_.as_uuid else Kind.STR
    if isinstance(type_, sqltypes.Numeric | sqltypes.Float):  # no subclass of Numeric in 2.1
        return Kind.DECIMAL if type_.asdecimal else Kind.FLOAT
    if isinstance(type_, sqltypes.ARRAY):
        return _kind_of_array(type_, dialect)
    if _is_geometry(type_):
        return geometry_kind()
    for class_, kind in _SIMPLE:
        if isinstance(type_, class_):
            return kind
    return None


def _kind_of_array(type_: sqltypes.ARRAY[Any], dialect: Dialect) -> Kind | None:
    if decorator_of(type_.item_type) is not None:
        return None
    item = kind_of(type_.item_type, dialect)
    if item is None or item.item is not None:
        return None
    return array_kind(item, type_.dimensions, as_tuple=type_.as_tuple)


def _reads_in_its_own_way(decorator: TypeDecorator[Any]) -> bool:
    """Whether it reads rows by more than ``process_result_value``."""
    class_ = type(decorator)
    return (
        class_.result_processor is not TypeDecorator.result_processor
        or class_.column_expression is not TypeDecorator.column_expression
    )


def _is_geometry(type_: TypeEngine[Any]) -> bool:
    # By name, so that geoalchemy2 is not required.
    classes = {f"{class_.__module__}.{class_.__name__}" for class_ in type(type_).__mro__}
    return "geoalchemy2.types._GISType" in classes
