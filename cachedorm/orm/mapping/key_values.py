"""Key values as the database holds them, so that reader and writer make the same key text.

A value that only the database could turn into the column's (``"5"`` for an integer, a naive time
for one with a zone) has no key here: a reader asks the database, a writer touches the whole table.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import partial
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Dialect
from sqlalchemy.sql import sqltypes
from sqlalchemy.types import TypeEngine

from cachedorm.declare.kinds import decorator_of, kind_of, raw_type
from cachedorm.errors import ArgumentError
from cachedorm.store.codec import Kind

_Exact = Callable[[Any], Any]

_PLAIN: Final[dict[Kind, type]] = {
    Kind.BOOL: bool,
    Kind.INT: int,
    Kind.STR: str,
    Kind.BYTES: bytes,
    Kind.UUID: UUID,
    Kind.DATE: date,
}
_made: WeakKeyDictionary[TypeEngine[Any], dict[str, _Exact]] = WeakKeyDictionary()


def key_value(column: Any, value: Any, dialect: Dialect) -> Any:
    """The value that a row has when this one is written to the column; None is null.

    Raises ArgumentError if only the database could say.
    """
    if value is None:
        return None
    # Looked up here first, without a call, because each key of a row passes.
    by_dialect = _made.get(column.type)
    exact = by_dialect.get(dialect.name) if by_dialect is not None else None
    return (exact or _exact_for(column.type, dialect))(value)


def asked_value(column: Any, value: Any, dialect: Dialect) -> Any:
    """The value of the rows that are equal to this one; ArgumentError if only the database knows.

    1.234 is stored as 1.23 in a column of two digits, but no row of it is equal to 1.234.
    """
    found = key_value(column, value, dialect)
    if type(found) is Decimal and found != _bound(column.type, value, dialect):
        raise ArgumentError(f"no {column} is equal to {value!r}")
    return found


def asked_value_of(column: Any, dialect: Dialect) -> _Exact:
    """``asked_value`` of one column or parameter, for values other than None."""
    if kind_of(column.type, dialect) is Kind.DECIMAL:
        return partial(asked_value, column, dialect=dialect)
    return _exact_for(column.type, dialect)


def _bound(type_: TypeEngine[Any], value: Any, dialect: Dialect) -> Any:
    """What the database gets, digits that no row has included."""
    decorator = decorator_of(type_._variant_mapping.get(dialect.name, type_))
    if decorator is None or not decorator._has_bind_processor:
        return value
    return decorator.process_bind_param(value, dialect)


def plain_key_type(column: Any, dialect: Dialect) -> type | None:
    """The type whose values stand in a row just as they are given, if the column has one."""
    type_ = column.type
    if decorator_of(type_) is not None or isinstance(raw_type(type_, dialect), sqltypes.Uuid):
        return None
    kind = kind_of(type_, dialect)
    return _PLAIN.get(kind) if kind is not None else None


def _exact_for(type_: TypeEngine[Any], dialect: Dialect) -> _Exact:
    by_dialect = _made.setdefault(type_, {})
    exact = by_dialect.get(dialect.name)
    if exact is None:
        exact = by_dialect[dialect.name] = _make(type_, dialect)
    return exact


def _make(type_: TypeEngine[Any], dialect: Dialect) -> _Exact:
    inner = _make_raw(raw_type(type_, dialect), kind_of(type_, dialect))
    decorator = decorator_of(type_._variant_mapping.get(dialect.name, type_))
    if decorator is None or not decorator._has_bind_processor:
        return inner
    bind = decorator.process_bind_param

    def exact(value: Any) -> Any:
        try:
            bound = bind(value, dialect)
        except Exception as error:
            raise ArgumentError(f"{decorator!r} does not take {value!r}: {error}") from error
        return None if bound is None else inner(bound)

    return exact


def _make_raw(raw: TypeEngine[Any], kind: Kind | None) -> _Exact:
    if kind is Kind.DECIMAL:
        return _decimal_of(_scale_of(raw))
    if isinstance(raw, sqltypes.Uuid) and kind is Kind.STR:
        return _uuid_text
    if kind is Kind.DATETIME:
        return _datetime_of(zoned=bool(getattr(raw, "timezone", False)))
    expected = None if kind is None else kind.enum or _PLAIN.get(kind)

    def exact(value: Any) -> Any:
        if type(value) is not expected:
            raise ArgumentError(f"{value!r} is not of the type of {raw!r}")
        return value

    return exact


def _uuid_text(value: Any) -> str:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise ArgumentError(f"{value!r} is not a UUID") from None


def _datetime_of(*, zoned: bool) -> _Exact:
    def exact(value: Any) -> datetime:
        if type(value) is not datetime or (value.utcoffset() is not None) is not zoned:
            # The time zone of the session would decide which instant is meant.
            raise ArgumentError(f"{value!r} {'has no' if zoned else 'has a'} time zone")
        return value

    return exact


def _scale_of(type_: TypeEngine[Any]) -> int | None:
    scale: int | None = getattr(type_, "scale", None)
    if scale is None and getattr(type_, "precision", None) is not None:
        return 0  # NUMERIC(10) has no digits after the point
    return scale


def _decimal_of(scale: int | None) -> _Exact:
    def exact(value: Any) -> Decimal:
        if type(value) is int:
            value = Decimal(value)
        if type(value) is not Decimal:
            raise ArgumentError(f"{value!r} is not a Decimal")
        if scale is None or not value.is_finite():
            return value
        return _rounded(value, Decimal(1).scaleb(-scale))

    return exact


def _rounded(value: Decimal, unit: Decimal) -> Decimal:
    """As PostgreSQL's numeric rounds: halves away from zero."""
    try:
        with localcontext() as context:
            context.prec = 2000
            return value.quantize(unit, ROUND_HALF_UP)
    except InvalidOperation:
        raise ArgumentError(f"{value!r} has more digits than any row") from None
