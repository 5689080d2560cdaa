"""From values to key text: exact, readable, and never able to look like another key.

Names in one Redis database::

    user:profile:42               an entry: the template's text
    ~s:my_db.users                the stamp of a tag (here a table's wildcard)
    ~s:my_db.users.*              the stamp of a table's membership
    ~s:my_db.missions.user_id=42  the stamp of one column's value
    ~s:?user_id=42                the stamp of one field's value, whatever the template
    ~i:user:profile:42            the intents on any key, a stamp's included
    ~r:user:profile:42            the lease of the caller that refreshes a served entry

Characters that have a meaning in a key are percent-escaped in values, so that the fields of a
template stay separable. Blanks and letters of every script stay readable.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex
from uuid import UUID

from cachedorm.errors import ArgumentError, DeclarationError

if TYPE_CHECKING:
    from cachedorm.store.protocol.entry import Format

KEY_BYTES_MAX: Final = 200
TEMPLATE_BYTES_MAX: Final = 150
_SURELY_SHORT: Final = KEY_BYTES_MAX // 4

# Numbers shorter than this are written without an exponent.
_IN_FULL_DIGITS: Final = 40
_IN_FULL: Final = 10**_IN_FULL_DIGITS

_STAMP: Final = "~s:"
_INTENTS: Final = "~i:"
_REFRESH: Final = "~r:"
_HASHED: Final = "~h:"
# Structure (% : ? & = ~ and Cluster's braces), controls (C0, DEL, C1, the two line separators)
# and lone surrogates, which UTF-8 cannot carry.
_UNSAFE: Final = re.compile("[%:?&={}~\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_find_unsafe: Final = _UNSAFE.search
_SEPARATORS: Final = frozenset(":?&=~")
_UNSAFE_LITERAL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EntryKey(str):
    """The key text of one entry, carrying the stamp keys it depends on and its form.

    dogpile hands keys through unchanged, so the region finds here what a plain str lacks.
    """

    __slots__ = ("form", "stamps", "ttl_ms")

    stamps: tuple[str, ...]
    form: Format
    ttl_ms: int | None

    def __new__(
        cls, text: str, stamps: tuple[str, ...], form: Format, ttl_ms: int | None = None
    ) -> Self:
        self = str.__new__(cls, text)
        self.stamps = stamps
        self.form = form
        self.ttl_ms = ttl_ms
        return self


def stamp_key(tag: str) -> str:
    """The key of a tag's stamp."""
    return _STAMP + tag


def intents_key(key: str) -> str:
    """The key of the intents on an entry or a stamp."""
    return _INTENTS + key


def refresh_key(key: str) -> str:
    """The key of the lease under which an entry is refreshed."""
    return _REFRESH + key


def wildcard_tag(table_fullname: str) -> str:
    """The tag of every entry over the table: touched when it is unknown which rows changed."""
    return table_fullname


def membership_tag(table_fullname: str) -> str:
    """The tag of which rows the table has: touched by every write to it."""
    return f"{table_fullname}.*"


def value_tag(table_fullname: str, column: str, value: object) -> str:
    """The tag of the rows that have this value in this column."""
    return _bounded(f"{table_fullname}.{column}=", escape(value))


def field_tag(field: str, value: object) -> str:
    """The tag of the entries whose template has this field with this value.

    Carried only by entries that neither their key nor a narrower tag finds by that field alone.
    """
    return _bounded(f"?{field}=", escape(value))


def escape(value: object) -> str:
    """The key text of a value, equal exactly for equal values of one column.

    5, 5.0 and Decimal("5.00") are one value to a database, so they are one text here; aware
    datetimes are their instant. Raises ArgumentError for None and for types without a text.
    """
    exact = _EXACT.get(type(value))
    return exact(value) if exact is not None else _escape_other(value)


def _escape_other(value: object) -> str:
    """Escape a value whose type is not exactly a known one: None, enum members, subclasses."""
    if value is None:
        raise ArgumentError("a key cannot be made of None: NULL equals nothing, look it up in SQL")
    if isinstance(value, Enum) and isinstance(value.name, str):
        return _text(value.name)
    for known, write in _KNOWN:
        if isinstance(value, known):
            return write(value)
    raise ArgumentError(
        f"a key cannot be made of {type(value).__qualname__}: pass the column's own Python type"
    )


def _text(value: str) -> str:
    # A subclass may answer str() with anything; its characters are what the database gets.
    plain = value if type(value) is str else str.__str__(value)
    return _UNSAFE.sub(_percent, plain) if _find_unsafe(plain) else plain


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _integer(value: SupportsIndex) -> str:
    number = operator.index(value)
    # Decimal, because Python refuses to write integers of more than 4300 digits.
    return repr(number) if abs(number) < _IN_FULL else _decimal(Decimal(number))


def _float(value: float) -> str:
    return _decimal(Decimal(float.__repr__(value)))


def _decimal(value: Decimal) -> str:
    """One text for a number, however it was spelt. No decimal context: nothing is rounded."""
    if not value.is_finite():
        if value.is_nan():
            return "nan"
        return "-inf" if value.is_signed() else "inf"
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    significant = "".join(map(str, digits)).lstrip("0")
    stripped = significant.rstrip("0")
    if not stripped:
        return "0"
    exponent += len(significant) - len(stripped)
    return ("-" if sign else "") + _positional(stripped, exponent)


def _positional(digits: str, exponent: int) -> str:
    """``digits`` x 10^exponent, in full where that is short, else with the exponent."""
    point = len(digits) + exponent
    if exponent >= 0:
        return digits + "0" * exponent if point <= _IN_FULL_DIGITS else f"{digits}E{exponent}"
    if point > 0:
        return f"{digits[:point]}.{digits[point:]}"
    return f"0.{'0' * -point}{digits}" if point > -_IN_FULL_DIGITS else f"{digits}E{exponent}"


def _datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        return _text(value.replace(tzinfo=None).isoformat())
    try:
        return _text(value.astimezone(UTC).isoformat())
    except OverflowError:
        # Within a day of year 1 or 9999: the instant has no UTC spelling, so it is counted.
        offset = value.utcoffset()
        assert offset is not None
        since = value.replace(tzinfo=None) - datetime(1, 1, 1) - offset  # noqa: DTZ001
        return _timedelta(since) + " since year 1 UTC"


def _date(value: date) -> str:
    return date.isoformat(value)


def _time(value: time) -> str:
    return _text(time.isoformat(value))


def _timedelta(value: timedelta) -> str:
    return f"{value // timedelta(microseconds=1)}us"


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return value.hex()


_Write = Callable[[Any], str]
_EXACT: Final[dict[type, _Write]] = {
    str: _text,
    int: _integer,
    bool: _bool,
    UUID: str,
    Decimal: _decimal,
    float: _float,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}
# For subclasses, narrower before wider: bool before int, datetime before date.
_KNOWN: Final[tuple[tuple[Any, _Write], ...]] = (
    (str, _text),
    (bool, _bool),
    (float, _float),
    (Decimal, _decimal),
    (UUID, UUID.__str__),
    (datetime, _datetime),
    (date, _date),
    (time, _time),
    (timedelta, _timedelta),
    ((bytes, bytearray, memoryview), _bytes),
    (SupportsIndex, _integer),
)


def _bounded(readable: str, rest: str) -> str:
    """Both joined; a hash replaces the rest where the key would be too long."""
    text = readable + rest
    # UTF-8 needs at most four bytes a character, so most keys are known to be short.
    if len(text) <= _SURELY_SHORT or len(text.encode()) <= KEY_BYTES_MAX:
        return text
    digest = hashlib.sha256(rest.encode()).hexdigest()[:32]
    return f"{readable}{_HASHED}{digest}"


class Template:
    """A key template such as ``user:profile:{user_id}``: checked once, rendered often."""

    __slots__ = ("_begin", "_fields", "fields", "text")

    def __init__(self, text: str) -> None:
        literals, self.fields = _parse(text)
        self.text = text
        self._begin = literals[0]
        self._fields = tuple(zip(self.fields, literals[1:], strict=True))

    def render(self, values: Mapping[str, object], appended: Sequence[str] = ()) -> str:
        """The key of these values; others in the mapping are ignored.

        ``appended`` names values that follow the template's text, as in ``?limit=10&since=...``.
        Only these may be None, or a tuple of several values. Different values give different
        keys. Raises ArgumentError for a field that is missing, None, or of a type without text.
        """
        rest = ""
        for field, literal in self._fields:
            try:
                rest += escape(values[field]) + literal
            except (KeyError, ArgumentError) as error:
                raise self._unusable(field, values, error) from None
        if appended:
            rest += "?" + "&".join(_parameter(name, values[name]) for name in appended)
        return _bounded(self._begin, rest)

    def render_one(self, value: object) -> str:
        """``render`` for the value of a template's only field."""
        field, literal = self._fields[0]
        try:
            return _bounded(self._begin, escape(value) + literal)
        except ArgumentError as error:
            raise self._unusable(field, {}, error) from None

    def render_each(self, values: Sequence[object]) -> str:
        """``render`` for values in the order of ``fields``: the same key, with less work.

        Raises ArgumentError as ``render`` does, and if the number of values is not that of fields.
        """
        if len(values) != len(self._fields):
            raise self._unusable(", ".join(self.fields), {}, KeyError())
        if len(values) == 1:
            return self.render_one(values[0])
        rest = ""
        for (field, literal), value in zip(self._fields, values, strict=True):
            try:
                rest += escape(value) + literal
            except ArgumentError as error:
                raise self._unusable(field, {}, error) from None
        return _bounded(self._begin, rest)

    def _unusable(
        self, field: str, values: Mapping[str, object], error: Exception
    ) -> ArgumentError:
        if isinstance(error, ArgumentError):
            return ArgumentError(f'key "{self.text}", {field}: {error}')
        given = ", ".join(values) or "nothing"
        return ArgumentError(f'key "{self.text}" needs {field}; given: {given}')

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def _parameter(name: str, value: object) -> str:
    # "=" and "~" are escaped in values, so neither None nor "no values" looks like a value.
    if value is None:
        return name
    if isinstance(value, tuple):
        return "&".join(f"{name}={escape(each)}" for each in value) or f"{name}~"
    return f"{name}={escape(value)}"


def _parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a template into the literals around its fields, and the fields."""
    pieces = re.split(r"\{([^{}]*)\}", text)
    literals, fields = tuple(pieces[0::2]), tuple(pieces[1::2])
    fault = _fault_of(text, literals, fields)
    if fault:
        raise DeclarationError(f'key "{text}": {fault}')
    return literals, fields


def _fault_of(text: str, literals: tuple[str, ...], fields: tuple[str, ...]) -> str | None:
    """What is wrong with a template and what to write instead, or None."""
    if not literals[0]:
        return "does not begin with literal text; write a prefix that no other key has"
    if text.startswith("~") or _HASHED in text:
        return f'keys that begin with "~" or hold "{_HASHED}" are the library\'s own; rename it'
    if any("{" in literal or "}" in literal for literal in literals):
        return "a brace stands alone; braces only enclose column names"
    if _UNSAFE_LITERAL.search(text):
        return "holds control characters; write it in plain text"
    if len(text.encode()) > TEMPLATE_BYTES_MAX:
        return f"is longer than {TEMPLATE_BYTES_MAX} bytes; shorten it"
    return _fault_of_fields(literals, fields)


def _fault_of_fields(literals: tuple[str, ...], fields: tuple[str, ...]) -> str | None:
    for field in fields:
        if not field.isidentifier():
            return f"{{{field}}} is not a column name; write the name alone, as in {{user_id}}"
        if fields.count(field) > 1:
            return f"{{{field}}} stands in it twice; once is enough to tell rows apart"
    # Without a separator that values cannot hold, ("1", "23") and ("12", "3") would be one key.
    for left, between, right in zip(fields, literals[1:-1], fields[1:], strict=False):
        if not _SEPARATORS.intersection(between):
            return f'{{{left}}} and {{{right}}} run together; write ":" between them'
    return None
