"""Which responses may be kept, for how long, and what is kept of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

from cachedorm.responses.directives import Directives, directives_of, seconds_in
from cachedorm.responses.messages import Fields, listed, values_of

# RFC 9110 (7.6.1) and RFC 9111 (3.1): they are about one connection.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_KEPT: Final = _HOP_BY_HOP | {b"content-length", b"cache-status"}
# Parts of the one answer that is asked for, another cache's answer, a stream without an end.
_UNFIT: Final = (b"set-cookie", b"content-range", b"age", b"trailer")
_FORBIDDING: Final = ("no-store", "private", "no-cache")
_OTHERS: Final = ("status", "vary", "event-stream", "content-length", "expired")
REFUSALS: Final = (*_FORBIDDING, *(name.decode() for name in _UNFIT), *_OTHERS)
"""Every reason that a response itself gives not to be kept."""
_ETAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Stored:
    """A response of status 200 as it is kept."""

    fields: Fields
    body: bytes
    etag: bytes
    ttl_ms: int

    @property
    def content(self) -> list[Any]:
        """As a plain value."""
        return [[list(field) for field in self.fields], self.body, self.etag, self.ttl_ms]

    @classmethod
    def of(cls, content: Any) -> Stored | None:
        """The response of this plain value; None if it is none."""
        try:
            fields, body, etag, ttl_ms = content
            kept = tuple((bytes(name), bytes(value)) for name, value in fields)
            return cls(kept, bytes(body), bytes(etag), int(ttl_ms))
        except (TypeError, ValueError):
            return None


def why_not_stored(status: int, fields: Fields, covers: Callable[[str], bool]) -> str | None:
    """Why a response that begins like this must not be kept, or None."""
    if status != 200:
        return "status"
    for name in _UNFIT:
        if values_of(fields, name):
            return name.decode()
    directives = directives_of(fields)
    for word in _FORBIDDING:
        if word in directives:
            return word
    if not all(covers(header) for header in listed(values_of(fields, b"vary"))):
        return "vary"
    if any(value.startswith(b"text/event-stream") for value in values_of(fields, b"content-type")):
        return "event-stream"
    return None


def stored_of(fields: Fields, body: bytes, ttl_ms: int) -> Stored | str:
    """What to keep of a complete response, or why it must not be kept."""
    if any(value.strip() != b"%d" % len(body) for value in values_of(fields, b"content-length")):
        return "content-length"
    left_ms = min(ttl_ms, _own_ttl_ms(fields, directives_of(fields), ttl_ms))
    if left_ms <= 0:
        return "expired"
    dropped = _NOT_KEPT | {name.encode() for name in listed(values_of(fields, b"connection"))}
    kept = tuple(each for each in fields if each[0] not in dropped)
    own = values_of(kept, b"etag")
    etag = own[0] if own else _etag_of(kept, body)
    return Stored(kept if own else (*kept, (b"etag", etag)), body, etag, left_ms)


def _own_ttl_ms(fields: Fields, directives: Directives, otherwise: int) -> int:
    """How long the response itself says that a shared cache may keep it."""
    for name in ("s-maxage", "max-age"):
        seconds = seconds_in(directives, name)
        if seconds is not None:
            return seconds * 1000
    expires = values_of(fields, b"expires")
    if not expires:
        return otherwise
    try:
        at = parsedate_to_datetime(expires[0].decode("latin-1")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0  # "0" above all: it has expired
    return int((at - time()) * 1000)


def _etag_of(fields: Fields, body: bytes) -> bytes:
    """A strong validator: the bytes of the body, and what they are."""
    digest = hashlib.blake2b(digest_size=_ETAG_BYTES)
    for name in (b"content-type", b"content-encoding", b"content-language"):
        digest.update(repr(values_of(fields, name)).encode())
    digest.update(body)
    return b'"%s"' % digest.hexdigest().encode()
