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
        self._ending: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gate = Gate(send)
        # A task of its own: to cancel a query, the driver talks to a server that may not answer,
        # and the client shall not wait for that too.
        task = asyncio.create_task(self._run(scope, receive, gate))
        try:
            await asyncio.wait({task}, timeout=self._seconds)
        finally:
            self._end(task)
        if task.done():
            task.result()
            return
        gate.shut = True
        logger.warning("%s %r took over %g s", scope["method"], scope["path"], self._seconds)
        if gate.begun:
            raise TimeoutError("the response had begun")
        await answer(503, "Took too long", RETRY_AFTER)(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, gate: Gate) -> None:
        await self._app(scope, receive, gate.send)

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ended)
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("ending a request that took too long: %r", error)


class Gate:
    """What an application's messages go through: open, until its time is up."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.shut = False

    async def send(self, message: Message) -> None:
        """Pass it on; nothing after the gate was shut."""
        if not self.shut:
            self.begun = True
            await self._send(message)


def _announced(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    # The server has refused what is no number.
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
