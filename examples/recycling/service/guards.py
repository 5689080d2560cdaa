"""What a request may take: bytes, and time."""

from __future__ import annotations

import asyncio
import logging

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.recycling.service.refusals import RETRY_AFTER, answer

logger = logging.getLogger("recycling")

TOO_LARGE = "Body too large"


class BodyLimit:
    """Answers 413 to a larger body, announced or not, and holds no more than that of it."""

    def __init__(self, app: ASGIApp, size_bytes: int) -> None:
        self._app = app
        self._size_bytes = size_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _announced(scope) > self._size_bytes:
            await answer(413, TOO_LARGE)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._size_bytes:
                # Sent in chunks, it said nothing beforehand; whoever reads the body hears of it.
                raise HTTPException(413, TOO_LARGE)
            return message

        return counted


class Deadline:
    """Answers 503 to what takes longer, and ends it; a response that has begun is cut off."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self._app(scope, receive, watched)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            logger.warning(
                "%s %r took longer than %g s", scope["method"], scope["path"], self._seconds
            )
            await answer(503, "Took too long", RETRY_AFTER)(scope, receive, send)


def _announced(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    # The server has refused what is no number.
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
