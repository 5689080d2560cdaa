"""Connections to Redis: commands packed, replies read, in threads and on event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from cachedorm.store.runtime.concurrency import await_

Word: TypeAlias = str | bytes | int


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An answer of Redis that begins with ``-``; its code is the first word."""

    text: str

    @property
    def code(self) -> str:
        return self.text.partition(" ")[0]


def _pack_in_python(words: tuple[Word, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def _choose_pack() -> Callable[[tuple[Word, ...]], bytes]:
    try:
        import hiredis
    except ImportError:
        return _pack_in_python
    # Its annotation says a tuple of one word; it takes any tuple.
    pack: Any = hiredis.pack_command
    return cast("Callable[[tuple[Word, ...]], bytes]", pack)


# One command. An EntryKey is a str to both.
pack = _choose_pack()


def pack_all(commands: Sequence[tuple[Word, ...]]) -> bytes:
    """Several commands as one message."""
    return b"".join([pack(command) for command in commands])


READ_BYTES = 32 * 1024
_MORE = object()
# The kernel can time a blocking socket itself, which spares two poll() calls an exchange.
_TIMEVAL = struct.Struct("ll")
_KERNEL_TIMES = sys.platform in ("linux", "darwin") and sys.maxsize > 2**32


class Connection(Protocol):
    """A connection as the client uses it. ``identity`` is the server's."""

    identity: bytes

    def exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        """Send, then read ``count`` replies within ``timeout`` seconds.

        Raises OSError; ConnectionError if the server has closed the connection.
        """

    def drop(self) -> None:
        """Close the connection. Never raises."""

    def abandon(self) -> None:
        """Release the connection in a forked child; the parent goes on using it."""


class BadReply(OSError):
    """The received bytes are not a reply of Redis."""


def reply_reader() -> Any | None:
    """hiredis' incremental parser, or None where it is not installed."""
    try:
        from hiredis import Reader
    except ImportError:
        return None
    # Replies are data here, not exceptions; hiredis takes whatever can be called.
    error_reply: Any = ErrorReply
    return Reader(protocolError=BadReply, replyError=error_reply, notEnoughData=_MORE)


class SyncConnection:
    """A blocking socket, read by hiredis."""

    __slots__ = ("_buffer", "_close", "_in_kernel", "_reader", "_sock", "_timeout", "identity")

    def __init__(self, sock: socket.socket, reader: Any, close: Callable[[], None]) -> None:
        self.identity = b""
        self._sock = sock
        self._reader = reader
        self._close = close
        self._buffer = bytearray(READ_BYTES)
        # Not for TLS, whose read loop ignores the kernel's verdict, nor for a patched socket.
        self._in_kernel = _KERNEL_TIMES and type(sock).__module__ == "socket"
        if self._in_kernel:
            sock.settimeout(None)
        self._timeout = 0.0

    def exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        if timeout != self._timeout:
            self._set_timeout(timeout)
        began = time.monotonic()
        sock, gets = self._sock, self._reader.gets
        replies: list[Any] = []
        try:
            sock.sendall(packed)
            while True:
                self._receive(sock)
                while (reply := gets()) is not _MORE:
                    replies.append(reply)
                    if len(replies) == count:
                        self._expect_silence()
                        return replies
                # The limit is for the whole exchange: bytes that trickle in do not restart it.
                self._set_timeout(timeout - (time.monotonic() - began))
        except BlockingIOError:
            raise TimeoutError from None

    def _receive(self, sock: socket.socket) -> None:
        size = sock.recv_into(self._buffer)
        if not size:
            raise ConnectionResetError("Redis closed the connection")
        self._reader.feed(self._buffer, 0, size)

    def _expect_silence(self) -> None:
        if self._reader.has_data():
            raise BadReply("more replies than commands")

    def _set_timeout(self, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError
        if self._in_kernel:
            # Zero would mean no limit.
            micros = max(1000, int(seconds * 1_000_000))
            limit = _TIMEVAL.pack(*divmod(micros, 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            self._sock.settimeout(seconds)
        self._timeout = seconds

    def drop(self) -> None:
        self._close()

    def abandon(self) -> None:
        let_go(self._sock)


class AsyncConnection(asyncio.Protocol):
    """A transport of one event loop, read by hiredis. For greenlets of that loop only."""

    __slots__ = (
        "_close", "_count", "_loop", "_reader", "_replies", "_transport", "_waiter", "identity",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.WriteTransport, reader: Any, close: Callable[[], None]
    ) -> None:
        self.identity = b""
        self._transport = transport
        self._reader = reader
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._count = 0
        transport.set_protocol(self)

    def exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        waiter, timer = self._send(packed, count, timeout)
        try:
            return await_(waiter)
        finally:
            timer.cancel()
            self._waiter = None

    async def ask(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        """The same for a coroutine."""
        waiter, timer = self._send(packed, count, timeout)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _send(
        self, packed: bytes, count: int, timeout: float
    ) -> tuple[asyncio.Future[list[Any]], asyncio.TimerHandle]:
        if self._transport.is_closing():
            raise ConnectionResetError("Redis closed the connection")
        self._replies, self._count = [], count
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(packed)
        return waiter, self._loop.call_later(timeout, self._expire, waiter)

    def _expire(self, waiter: asyncio.Future[list[Any]]) -> None:
        self._fail(waiter, TimeoutError())

    def _fail(self, waiter: asyncio.Future[list[Any]] | None, error: OSError) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Not a reply to a command: the next user must find the connection closed.
            self.drop()
            return
        try:
            self._parse(data, waiter)
        except OSError as error:
            self._fail(waiter, error)

    def _parse(self, data: bytes, waiter: asyncio.Future[list[Any]]) -> None:
        reader, replies = self._reader, self._replies
        reader.feed(data)
        while (reply := reader.gets()) is not _MORE:
            replies.append(reply)
            if len(replies) == self._count:
                if reader.has_data():
                    raise BadReply("more replies than commands")
                waiter.set_result(replies)
                return

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._waiter, ConnectionResetError("Redis closed the connection"))

    def drop(self) -> None:
        self._close()

    def abandon(self) -> None:
        let_go(self._transport.get_extra_info("socket"))


def let_go(sock: Any) -> None:
    """Redirect the descriptor, so that neither shutdown nor close affects the parent's socket."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, sock.fileno())
        os.close(nowhere)
