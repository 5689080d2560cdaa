"""A response held back while it may still be kept, and passed through once it may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cachedorm.responses.messages import Fields, Message, Send, fields_of, with_field

# Said before the response begins, and no part of it.
_BESIDE = frozenset({"http.response.debug", "http.response.early_hint", "http.response.push"})


class Capture:
    """The application's ``send``. Holds at most ``body_max`` bytes of the body.

    ``why_not``: asked when the response begins. ``complete``: gets the whole response, and sends
    it. ``passed``: told that it is passed through, and why, before the client gets anything;
    answers with the Cache-Status to send.
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
            await self._go_on(message)
        else:
            await self._pass("extension")
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            if message["type"] not in _BESIDE:
                await self._pass("extension")
            await self._send(message)
            return
        # They may be any iterable, and are looked at more than once.
        headers = list(message.get("headers", ()))
        self._start = {**message, "headers": headers}
        fields = fields_of(headers)
        reason = self._why_not(message["status"], fields)
        if reason is None and message.get("trailers"):
            reason = "trailers"
        if reason is not None:
            await self._pass(reason)

    async def _go_on(self, message: Message) -> None:
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
        """The application has returned: what it left unfinished is sent as far as it came."""
        if not self._through and self._start is not None:
            await self._pass("unfinished")
