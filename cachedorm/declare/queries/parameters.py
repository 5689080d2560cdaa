"""The parameters of a cached query: their names, defaults and types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

from cachedorm.errors import ArgumentError, DeclarationError

# The types whose values the database accepts for another type without changing their meaning.
_WIDER: Mapping[type, tuple[type, ...]] = {Decimal: (int,), float: (int, Decimal)}


class Parameters:
    """The named parameters of one statement, with their defaults and types."""

    __slots__ = ("_expected", "_quickly", "bound", "defaults", "never_null", "who")

    def __init__(self, statement: SelectBase, who: str, key_fields: Collection[str]) -> None:
        self.who = who
        self.bound = _named(statement, who)
        self.defaults = {
            name: bound.effective_value for name, bound in self.bound.items() if not bound.required
        }
        self.never_null = frozenset(key_fields)
        self._expected = {name: _expected(bound.type) for name, bound in self.bound.items()}
        # Where the very type is all there is to check.
        self._quickly = {
            name: None if self.bound[name].expanding or expected is datetime else expected
            for name, expected in self._expected.items()
        }

    def complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values completed by defaults; ArgumentError for a wrong name or type."""
        names = self._quickly
        if values.keys() != names.keys():
            values = {**self.defaults, **values}
            if values.keys() != names.keys():
                raise ArgumentError(self._wrong_names(values))
        for name, value in values.items():
            if type(value) is not names[name]:
                values[name] = self._checked(name, value, self._expected[name])
        return values

    def _checked(self, name: str, value: Any, expected: type | None) -> Any:
        """The value, if the column's type takes it unchanged."""
        if self.bound[name].expanding:
            return self._checked_list(name, value, expected)
        if value is None:
            if name in self.never_null:
                raise ArgumentError(
                    f"{self.who}: {name}=None: a key cannot contain NULL, which equals nothing;"
                    " write a query of its own for rows without a value"
                )
        elif not self._fits(name, value, expected):
            raise ArgumentError(self._wrong_type(name, value, expected))
        return value

    def _checked_list(self, name: str, value: Any, expected: type | None) -> tuple[Any, ...]:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            raise ArgumentError(
                f"{self.who}: {name} is a list of values for an IN ({self.bound[name].type!r});"
                f" found {value!r:.80} ({type(value).__name__})"
            )
        for each in value:
            if each is not None and not self._fits(name, each, expected):
                raise ArgumentError(self._wrong_type(name, each, expected))
        return tuple(value)

    def _fits(self, name: str, value: Any, expected: type | None) -> bool:
        if expected is None:
            return True
        if not _is_a(value, expected):
            return False
        # The time zone of the session would decide which instant is meant.
        zoned = bool(getattr(self.bound[name].type, "timezone", False))
        return expected is not datetime or (value.utcoffset() is not None) is zoned

    def _wrong_type(self, name: str, value: Any, expected: type | None) -> str:
        type_, given = self.bound[name].type, type(value).__name__
        if expected is datetime and isinstance(value, datetime):
            given += " without a time zone" if value.utcoffset() is None else " with a time zone"
        named = "" if expected is None else f", whose values are {expected.__name__}"
        return f"{self.who}: {name} is compared as {type_!r}{named}; found {value!r:.80} ({given})"

    def _wrong_names(self, values: Mapping[str, Any]) -> str:
        missing = [name for name in self.bound if name not in values]
        unknown = [name for name in values if name not in self.bound]
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        takes = ", ".join(self.bound) or "none"
        return f"{self.who} takes the parameters {takes}; {'; '.join(parts)}"


def _named(statement: SelectBase, who: str) -> dict[str, BindParameter[Any]]:
    """The parameters with a name of their own; of two of one name, the typed one."""
    found: dict[str, BindParameter[Any]] = {}
    for element in iterate(statement):
        if not isinstance(element, BindParameter):
            continue
        if element.callable is not None:
            raise DeclarationError(
                f"{who}: {element.key!r} is looked up when the statement runs (a comparison with"
                " an object, or a callable), which no key can hold; compare with bindparam()"
            )
        if element.unique:
            continue
        known = found.get(element.key)
        if known is None or (known.type._isnull and not element.type._isnull):
            found[element.key] = element
        elif bool(known.expanding) is not bool(element.expanding):
            raise DeclarationError(
                f"{who}: {element.key!r} is one value here and a list there; give them two names"
            )
    return found


def _expected(type_: TypeEngine[Any]) -> type | None:
    """The Python type of the values, or None if only the column type can check them."""
    if isinstance(type_, TypeDecorator | JSON) or type_._isnull:
        return None
    try:
        found: type = type_.python_type
    except NotImplementedError:
        return None
    return None if found is object else found


def _is_a(value: Any, expected: type) -> bool:
    given = type(value)
    if given is expected or given in _WIDER.get(expected, ()):
        return True
    if given is bool or isinstance(value, Enum) or (given is datetime and expected is date):
        return False
    return isinstance(value, expected)
