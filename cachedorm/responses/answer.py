"""Answering with a stored response: whole, without its body for HEAD, or as 304."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cachedorm.responses.messages import Fields, Message, Send
from cachedorm.responses.request import Request
from cachedorm.responses.stored import Stored

_TAG = re.compile(rb'(?:W/)?("[^"]*")')
# RFC 9110, 15.4.5: a 304 says nothing of the representation that the client has already.
_OF_THE_BODY: Final = frozenset(
    {b"content-type", b"content-encoding", b"content-language", b"content-length", b"last-modified"}
)


def has_it_already(if_none_match: Iterable[bytes], etag: bytes) -> bool:
    """Whether If-None-Match names this tag: by the weak comparison, RFC 9110, 8.8.3.2."""
    text = b",".join(if_none_match)
    if text.strip() == b"*":
        return True
    return _opaque(etag) in _TAG.findall(text)


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")


def cache_status(name: str, *words: str, detail: str = "") -> bytes:
    """A Cache-Status header, RFC 9211."""
    said = [name, *words]
    if detail:
        said.append(f'detail="{detail}"')
    return "; ".join(said).encode("latin-1")


async def answer(
    send: Send, request: Request, stored: Stored, status: bytes, age_s: int | None = None
) -> None:
    """Send it. ``age_s``: how long it has been stored; None if it was made just now."""
    more: Fields = ((b"cache-status", status),)
    if age_s is not None:
        more = ((b"age", b"%d" % age_s), *more)
    if has_it_already(request.values("if-none-match"), stored.etag):
        kept = [each for each in stored.fields if each[0] not in _OF_THE_BODY]
        await _send(send, 304, [*kept, *more], b"")
        return
    length = (b"content-length", b"%d" % len(stored.body))
    body = b"" if request.method == "HEAD" else stored.body
    await _send(send, 200, [*stored.fields, length, *more], body)


async def refuse_to_ask(send: Send, status: bytes) -> None:
    """What ``only-if-cached`` gets where nothing is cached, RFC 9111, 5.2.1.7."""
    fields = [(b"content-length", b"0"), (b"cache-status", status)]
    await _send(send, 504, fields, b"")


async def _send(send: Send, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    start: Message = {"type": "http.response.start", "status": status, "headers": fields}
    await send(start)
    await send({"type": "http.response.body", "body": body})
