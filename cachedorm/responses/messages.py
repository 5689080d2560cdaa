"""What ASGI passes around, and its header lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]


def fields_of(headers: Iterable[Iterable[bytes]]) -> Fields:
    """The headers of a scope or a message, their names in lower case."""
    return tuple((bytes(name).lower(), bytes(value)) for name, value in headers)


def values_of(fields: Fields, name: bytes) -> tuple[bytes, ...]:
    """Every value of a header, in order."""
    return tuple(value for each, value in fields if each == name)


def listed(values: Iterable[bytes]) -> list[str]:
    """The members of a header that is a list of tokens, in lower case."""
    text = b",".join(values).decode("latin-1")
    return [member.strip().lower() for member in text.split(",") if member.strip()]


def with_field(message: Message, name: bytes, value: bytes) -> Message:
    """The start of a response with one more header line."""
    return {**message, "headers": [*message.get("headers", ()), (name, value)]}
