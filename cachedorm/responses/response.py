"""Responses: which may be stored, how one is captured from the application, and answering with it.

Header names and rules follow RFC 9110 (HTTP), RFC 9111 (caching) and RFC 9211 (Cache-Status).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

from cachedorm.responses.messages import (
    Directives,
    Fields,
    Message,
    Send,
    directives_of,
    fields_of,
    listed,
    seconds_in,
    values_of,
    with_field,
)
from cachedorm.responses.request import Request

# RFC 9110 (7.6.1) and RFC 9111 (3.1): headers about one connection.
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
# Respectively: for one client, a part of the representation, from another cache, a trailer.
_UNFIT: Final = (b"set-cookie", b"content-range", b"age", b"trailer")
_FORBIDDING: Final = ("no-store", "private", "no-cache")
_OTHERS: Final = ("status", "vary", "event-stream", "content-length", "expired")
RESPONSE_REFUSALS: Final = (*_FORBIDDING, *(name.decode() for name in _UNFIT), *_OTHERS)
"""Every reason not to be stored that a response itself can give."""
_ETAG_BYTES: Final = 16
_TAG = re.compile(rb'(?:W/)?("[^"]*")')
# RFC 9110, 15.4.5: a 304 does not describe the representation that the client already has.
_OF_THE_BODY: Final = frozenset(
    {b"content-type", b"content-encoding", b"content-language", b"content-length", b"last-modified"}
)
# Messages that may come before the response begins and are not part of it.
_BEFORE_START = frozenset({"http.response.debug", "http.response.early_hint", "http.response.push"})


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response of status 200 as it is stored."""

    fields: Fields
    body: bytes
    etag: bytes
    ttl_ms: int

    @property
    def content(self) -> list[Any]:
        """The response as a plain value."""
        return [[list(field) for field in self.fields], self.body, self.etag, self.ttl_ms]

    @classmethod
    def of(cls, content: Any) -> StoredResponse | None:
        """The response that this plain value holds; None if it does not hold one."""
        try:
            fields, body, etag, ttl_ms = content
            kept = tuple((bytes(name), bytes(value)) for name, value in fields)
            return cls(kept, bytes(body), bytes(etag), int(ttl_ms))
        except (TypeError, ValueError):
            return None


def why_not_stored(status: int, fields: Fields, covers: Callable[[str], bool]) -> str | None:
    """Why a response that begins like this must not be stored, or None."""
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


def stored_of(fields: Fields, body: bytes, ttl_ms: int) -> StoredResponse | str:
    """What to store of a complete response, or why it must not be stored."""
    if any(value.strip() != b"%d" % len(body) for value in values_of(fields, b"content-length")):
        return "content-length"
    left_ms = min(ttl_ms, _own_ttl_ms(fields, directives_of(fields), ttl_ms))
    if left_ms <= 0:
        return "expired"
    dropped = _NOT_KEPT | {name.encode() for name in listed(values_of(fields, b"connection"))}
    kept = tuple(each for each in fields if each[0] not in dropped)
    own = values_of(kept, b"etag")
    etag = own[0] if own else _etag_of(kept, body)
    return StoredResponse(kept if own else (*kept, (b"etag", etag)), body, etag, left_ms)


def _own_ttl_ms(fields: Fields, directives: Directives, otherwise: int) -> int:
    """How long a shared cache may keep the response, by its own headers."""
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
        return 0  # an invalid date, "0" above all, means already expired: RFC 9111, 5.3
    return int((at - time()) * 1000)


def _etag_of(fields: Fields, body: bytes) -> bytes:
    """A strong validator made of the body and the headers that describe it."""
    digest = hashlib.blake2b(digest_size=_ETAG_BYTES)
    for name in (b"content-type", b"content-encoding", b"content-language"):
        digest.update(repr(values_of(fields, name)).encode())
    digest.update(body)
    return b'"%s"' % digest.hexdigest().encode()


class Capture:
    """The application's ``send``: hold the response back while it may still be stored.

    Once it may not be stored, pass it through as it comes. ``body_max``: bytes of the body held at
    most. ``why_not``: called when the response begins. ``complete``: called with the whole
    response, to send it. ``passed``: called with the reason before anything is passed through;
    returns the Cache-Status to send.
    """

    def __init__(
        self,
        send: Send,
        body_max: int,
        why_not: Callable[[int, Fields], str | None],
        complete: Callable[[Message, Fields, bytes], Awaitable[None]],
        passed: Callable[[str], Awaitable[bytes]],
    ) -> None:
        self._send = send
        self._body_max = body_max
        self._why_not = why_not
        self._complete = complete
        self._passed = passed
        self._start: Message | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._through = False

    async def __call__(self, message: Message) -> None:
        if self._through:
            await self._send(message)
        elif self._start is None:
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._hold(message)
        else:
            await self._pass("extension")
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            if message["type"] not in _BEFORE_START:
                await self._pass("extension")
            await self._send(message)
            return
        # The application may give any iterable, and we iterate more than once.
        headers = list(message.get("headers", ()))
        self._start = {**message, "headers": headers}
        fields = fields_of(headers)
        reason = self._why_not(message["status"], fields)
        if reason is None and message.get("trailers"):
            reason = "trailers"
        if reason is not None:
            await self._pass(reason)

    async def _hold(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if self._size + len(body) > self._body_max:
            await self._pass("size")
            await self._send(message)
            return
        self._body.append(body)
        self._size += len(body)
        if not message.get("more_body", False):
            start: Any = self._start
            self._through = True
            fields = fields_of(start.get("headers", ()))
            await self._complete(start, fields, b"".join(self._body))

    async def _pass(self, reason: str) -> None:
        """Send what was held, and from now on everything as it comes."""
        self._through = True
        status = await self._passed(reason)
        if self._start is None:
            return
        await self._send(with_field(self._start, b"cache-status", status))
        if self._body:
            held = b"".join(self._body)
            await self._send({"type": "http.response.body", "body": held, "more_body": True})
            self._body.clear()

    async def end(self) -> None:
        """The application has returned: send whatever it left unfinished."""
        if not self._through and self._start is not None:
            await self._pass("unfinished")


def matches_etag(if_none_match: Iterable[bytes], etag: bytes) -> bool:
    """Whether If-None-Match names this tag, by weak comparison: RFC 9110, 8.8.3.2."""
    text = b",".join(if_none_match)
    if text.strip() == b"*":
        return True
    return etag.removeprefix(b"W/") in _TAG.findall(text)


def cache_status(name: str, *words: str, detail: str = "") -> bytes:
    """The value of a Cache-Status header, RFC 9211."""
    members = [name, *words]
    if detail:
        members.append(f'detail="{detail}"')
    return "; ".join(members).encode("latin-1")


async def answer(
    send: Send,
    request: Request,
    stored: StoredResponse,
    status: bytes,
    age_s: int | None = None,
) -> None:
    """Send the response: whole, without its body for HEAD, or as 304.

    ``age_s``: seconds since it was stored; None if the application has just made it.
    """
    more: Fields = ((b"cache-status", status),)
    if age_s is not None:
        more = ((b"age", b"%d" % age_s), *more)
    if matches_etag(request.values("if-none-match"), stored.etag):
        kept = [each for each in stored.fields if each[0] not in _OF_THE_BODY]
        await _send(send, 304, [*kept, *more], b"")
        return
    length = (b"content-length", b"%d" % len(stored.body))
    body = b"" if request.method == "HEAD" else stored.body
    await _send(send, 200, [*stored.fields, length, *more], body)


async def answer_not_cached(send: Send, status: bytes) -> None:
    """Send 504: the request is ``only-if-cached`` and nothing is cached, RFC 9111, 5.2.1.7."""
    fields = [(b"content-length", b"0"), (b"cache-status", status)]
    await _send(send, 504, fields, b"")


async def _send(send: Send, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    start: Message = {"type": "http.response.start", "status": status, "headers": fields}
    await send(start)
    await send({"type": "http.response.body", "body": body})
