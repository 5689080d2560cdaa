"""Parse a key's text: the templates that can make it, and the values in it.

The counterpart of ``store.protocol.keys``. The values are a guess until a key made of them has the
same text: a value may be hashed, or come from a document that has no text form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from cachedorm.store.codec.kinds import Kind
from cachedorm.store.protocol.keys import Template

# The text of a value; structural characters appear only as percent escapes.
_VALUE: Final = r"[^:?&=~{}%]*(?:%[0-9A-F]{2}[^:?&=~{}%]*)*"
_HASH: Final = r"~h:[0-9a-f]{32}"
# No useful key has a longer number, and int() of one is slow.
_DIGITS_MAX: Final = 60
# Characters that a value's text never contains, so it cannot contain a template's own text.
_STRUCTURE: Final = frozenset(":?&=~{}")

# The texts of each parameter's values; None for NULL.
Texts = Mapping[str, tuple[str, ...] | None]
UNREADABLE: Final = (ValueError, ArithmeticError, KeyError)
"""Every exception that ``parsed`` can raise."""


def literals_of(template: Template) -> list[str]:
    """The texts around the template's fields, one more than there are fields."""
    return re.split(r"\{[^{}]*\}", template.text)


@cache
def _pattern(template: Template) -> re.Pattern[str]:
    begin, *rest = literals_of(template)
    parts = [
        f"(?P<{field}>{_VALUE}){re.escape(literal)}"
        for field, literal in zip(template.fields, rest, strict=True)
    ]
    readable = "".join(parts)
    return re.compile(
        f"{re.escape(begin)}(?:{readable}(?:\\?(?P<appended_>.*))?|(?P<hashed_>{_HASH}))", re.DOTALL
    )


def is_of(template: Template, text: str, appended: Sequence[str] = ()) -> bool:
    """Whether this can be a key of the template with these parameters appended."""
    return texts_of(template, text, appended) is not None


def texts_of(template: Template, text: str, appended: Sequence[str] = ()) -> Texts | None:
    """The escaped texts of the values in the key; None if the template does not make it.

    Empty if the values are hashed.
    """
    found = _pattern(template).fullmatch(text)
    if found is None:
        return None
    if found["hashed_"] is not None:
        return {}
    texts: dict[str, tuple[str, ...] | None] = {field: (found[field],) for field in template.fields}
    rest = found["appended_"]
    if rest is None or not appended:
        return texts if rest is None and not appended else None
    more = _appended(rest)
    return {**texts, **more} if more.keys() == set(appended) else None


def _appended(rest: str) -> dict[str, tuple[str, ...] | None]:
    found: dict[str, tuple[str, ...] | None] = {}
    for part in rest.split("&"):
        name, equals, value = part.partition("=")
        if equals:
            found[name] = (*(found.get(name) or ()), value)
        elif name.endswith("~"):
            found[name[:-1]] = ()
        else:
            found[name] = None
    return found


def unescaped(text: str) -> str:
    """The value's text without the escapes of a key."""
    return unquote(text, errors="surrogatepass")


def parsed(text: str, kind: Kind | None) -> Any:
    """The value of this kind that the text stands for; raises UNREADABLE.

    An enum's member is found by name or value. Without a kind the text is the value.
    """
    if kind is None:
        return text
    if kind.enum is not None:
        members = kind.enum.__members__
        return members[text] if text in members else kind.enum(text)
    read = _READ.get(kind)
    if read is None:
        raise ValueError(f"{kind} has no text form")
    return read(text)


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise ValueError("too long for a number in a key")
    return int(text)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _duration(text: str) -> timedelta:
    number = re.fullmatch(r"(-?\d{1,20})us", text)
    if number is None:
        raise ValueError("a duration in a key is in microseconds, such as 1000000us")
    return timedelta(microseconds=int(number[1]))


def _text(text: str) -> str:
    return text


_READ: Final[dict[Kind, Callable[[str], Any]]] = {
    Kind.INT: _integer,
    Kind.FLOAT: float,
    Kind.STR: _text,
    Kind.BOOL: _boolean,
    Kind.BYTES: bytes.fromhex,
    Kind.UUID: UUID,
    Kind.DECIMAL: Decimal,
    Kind.DATETIME: datetime.fromisoformat,
    Kind.DATE: date.fromisoformat,
    Kind.TIME: time.fromisoformat,
    Kind.TIMEDELTA: _duration,
}


def overlap(one: Template, other: Template) -> bool:
    """Whether both templates make the same key for some values."""
    ours, theirs = _symbols(one), _symbols(other)
    # The pairs of positions, one in each template, that a common prefix can reach.
    waiting, met = [(0, 0)], {(0, 0)}
    while waiting:
        i, j = waiting.pop()
        if i == len(ours) and j == len(theirs):
            return True
        for step in _steps(ours[i : i + 1], theirs[j : j + 1]):
            place = (i + step[0], j + step[1])
            if place not in met:
                met.add(place)
                waiting.append(place)
    return False


def _symbols(template: Template) -> list[str | None]:
    begin, *rest = literals_of(template)
    symbols: list[str | None] = list(begin)
    for literal in rest:
        symbols += (None, *literal)
    return symbols


def _steps(ours: Sequence[str | None], theirs: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    """The next positions of both: a value can end here or absorb the other's character."""
    mine, its = (ours or [""])[0], (theirs or [""])[0]
    if mine is None:
        yield 1, 0
        if its and its not in _STRUCTURE:
            yield 0, 1
    if its is None:
        yield 0, 1
        if mine and mine not in _STRUCTURE:
            yield 1, 0
    if mine and mine == its:
        yield 1, 1
