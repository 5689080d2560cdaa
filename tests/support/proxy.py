"""A TCP proxy that does to a connection what networks do, when the test says so."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from enum import Enum
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Fault(Enum):
    """What the proxy does with what passes through."""

    PASS = "pass"
    """Nothing."""
    BLACKHOLE = "blackhole"
    """Nothing arrives, either way; connections stay open. Held bytes arrive when it is over."""
    HALF_OPEN = "half-open"
    """What the client says arrives, the server's answer does not (until it is over)."""
    REFUSE = "refuse"
    """Nobody listens; open connections are reset."""
    DELAY = "delay"
    """Everything arrives late, by `delay` seconds each way."""
    RESET = "reset"
    """Connections are accepted and reset at once, open ones too."""


class FaultProxy:
    """Listens on a port of its own and passes to (host, port); its loop runs in a thread.

    `impose(fault)` returns when the fault is in force. What a fault holds back is kept, as a
    network that retransmits does, so a healed connection may deliver an answer that nobody waits
    for any more.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.fault = Fault.PASS
        self.delay = 0.0
        self.accepted = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._held = 0
        self._holding = threading.Condition()

    def start(self) -> Self:
        """The listening proxy."""
        self._thread.start()
        self._run(self._listen)
        return self

    def impose(self, fault: Fault, *, delay: float = 0.0) -> None:
        """From now on do this to every connection."""
        self._run(lambda: self._impose(fault, delay))

    def heal(self) -> None:
        """Pass everything on again, what was held back first."""
        self.impose(Fault.PASS)

    def wait_until_held(self, *, size_bytes: int = 1, timeout: float = 60.0) -> None:
        """Return once the fault holds back so many bytes: time for the next move of a race."""
        with self._holding:
            if not self._holding.wait_for(lambda: self._held >= size_bytes, timeout):
                raise TimeoutError(f"{self!r} holds {self._held} bytes after {timeout} s")

    def close(self) -> None:
        """Reset what is open and stop listening."""
        if not self._thread.is_alive():
            return
        self._run(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        host, port = self.target
        state = f"{self.fault.value}, {len(self._lines)} open"
        return f"<FaultProxy {self.port} -> {host}:{port}, {state}>"

    # -- inside the loop --

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work(), self._loop)
        return future.result(timeout=60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _impose(self, fault: Fault, delay: float) -> None:
        self.fault, self.delay = fault, delay
        if fault in {Fault.REFUSE, Fault.RESET}:
            self._reset_all()
        if fault is Fault.REFUSE:
            await self._stop_listening()
        elif self._server is None:
            await self._listen()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _close(self) -> None:
        await self._stop_listening()
        self._reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for line in list(self._lines):
            _reset(line)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault in {Fault.RESET, Fault.REFUSE}:
            return
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        self._lines |= {writer, up_writer}
        try:
            await _first_to_end(
                self._pump(reader, up_writer, {Fault.BLACKHOLE}),
                self._pump(up_reader, writer, {Fault.BLACKHOLE, Fault.HALF_OPEN}),
            )
        finally:
            self._lines -= {writer, up_writer}
            _reset(up_writer)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, holds: set[Fault]
    ) -> None:
        while data := await source.read(65_536):
            if self.fault is Fault.DELAY:
                await asyncio.sleep(self.delay)
            await self._hold(len(data), holds)
            sink.write(data)
            await sink.drain()

    async def _hold(self, size_bytes: int, holds: set[Fault]) -> None:
        if self.fault not in holds:
            return
        self._count(size_bytes)
        try:
            while self.fault in holds:
                await self._changed.wait()
        finally:
            self._count(-size_bytes)

    def _count(self, size_bytes: int) -> None:
        with self._holding:
            self._held += size_bytes
            self._holding.notify_all()


async def _first_to_end(*works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN: the other side gets ECONNRESET at once."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
