"""Blocking primitives that work in threads and in SQLAlchemy's greenlets.

SQLAlchemy runs the code of an ``AsyncSession`` in a greenlet. There, what would block suspends
the greenlet and leaves the event loop free. Elsewhere it blocks the thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Protocol, TypeVar

# await_ in SQLAlchemy 2.1, which keeps the name that 2.0 has.
from sqlalchemy.util.concurrency import await_only as await_
from sqlalchemy.util.concurrency import greenlet_spawn, in_greenlet

__all__ = ["Signal", "await_", "domain", "in_greenlet", "shielded", "signal", "sleep"]

T = TypeVar("T")


class Signal(Protocol):
    """An event that threads, or the greenlets of one loop, wait for."""

    def set(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """True once set; False after ``timeout`` seconds."""


def domain() -> Hashable:
    """None in threads, the running loop in greenlets: callers may wait for each other only
    within one domain."""
    return asyncio.get_running_loop() if in_greenlet() else None


def sleep(seconds: float) -> None:
    """Wait, without blocking the event loop if there is one."""
    if in_greenlet():
        await_(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def signal() -> Signal:
    """A new signal for callers of the current domain."""
    return _LoopSignal() if in_greenlet() else threading.Event()


class _LoopSignal:
    """An event for the greenlets of one loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.is_set() or await_(self._wait(timeout))

    async def _wait(self, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                return await self._event.wait()
        except TimeoutError:
            return self._event.is_set()


def shielded(act: Callable[[], T]) -> T:
    """Runs to its end though the task is cancelled meanwhile; the cancellation follows.

    It surfaces at the first await that suspends after this, if nobody has taken it back by then
    (as ``asyncio.timeout`` does when its block ends). Threads just run.
    """
    return await_(_outlast(greenlet_spawn(act))) if in_greenlet() else act()


async def _outlast(work: Coroutine[Any, Any, T]) -> T:
    """Awaits the work in a task of its own, whatever happens to this one."""
    task = asyncio.current_task()
    assert task is not None, "SQLAlchemy's greenlets run in tasks"
    before = task.cancelling()
    inner = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not inner.done():
        try:
            await asyncio.wait((inner,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # By call_soon, not now: the task is running, and a cancel() taken back before the next
        # await (asyncio.timeout's __aexit__, on 3.11 and 3.12) would strike after its block.
        asyncio.get_running_loop().call_soon(_deliver, task, before, cancelled.args)
    return inner.result()


def _deliver(task: asyncio.Task[Any], before: int, args: tuple[Any, ...]) -> None:
    """Interrupts the task as the swallowed cancellation would have, with the same count."""
    if task.done() or task.cancelling() <= before:
        return
    task.uncancel()
    task.cancel(*args)
