"""ASGI messages: their types, their header lists, and Cache-Control (RFC 9111, 5.2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
Directives: TypeAlias = Mapping[str, str]

# A name, and maybe a value: a token, or a quoted string that may contain commas.
_DIRECTIVE = re.compile(r'\s*([^\s,=;"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,;"]*))?')
_DIGITS_MAX = 9


def fields_of(headers: Iterable[Iterable[bytes]]) -> Fields:
    """The headers of a scope or a message, with their names in lower case."""
    return tuple((bytes(name).lower(), bytes(value)) for name, value in headers)


def values_of(fields: Fields, name: bytes) -> tuple[bytes, ...]:
    """Every value of a header, in order."""
    return tuple(value for each, value in fields if each == name)


def listed(values: Iterable[bytes]) -> list[str]:
    """The members of a header that is a list of tokens, in lower case."""
    text = b",".join(values).decode("latin-1")
    return [member.strip().lower() for member in text.split(",") if member.strip()]


def with_field(message: Message, name: bytes, value: bytes) -> Message:
    """A copy of the start of a response with one more header line."""
    return {**message, "headers": [*message.get("headers", ()), (name, value)]}


def directives_of(fields: Fields) -> Directives:
    """The directives of Cache-Control, by name in lower case; those of Pragma if it is absent."""
    found = values_of(fields, b"cache-control")
    return _directives_in(found or values_of(fields, b"pragma"))


def _directives_in(values: Iterable[bytes]) -> Directives:
    text = b",".join(values).decode("latin-1")
    found: dict[str, str] = {}
    for name, value in _DIRECTIVE.findall(text):
        # Of a repeated directive the first counts: RFC 9111, 4.2.1.
        found.setdefault(name.lower(), value.strip('"'))
    return found


def seconds_in(directives: Directives, name: str) -> int | None:
    """The seconds that a directive gives; None if it is absent, 0 if its value is not a number."""
    value = directives.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        return 0  # an unreadable value must not make a response fresh
    return int(value[:_DIGITS_MAX]) if len(value) <= _DIGITS_MAX else 10**_DIGITS_MAX
