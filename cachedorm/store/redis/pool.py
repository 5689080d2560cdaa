"""Idle lines, last in first out, per Redis database: one rack for threads, one for each loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from typing import TypeAlias

from cachedorm.store.redis.connection import Line
from cachedorm.store.runtime.concurrency import in_greenlet
from cachedorm.store.runtime.forks import follow_forks

Stack: TypeAlias = deque[Line]
Rack: TypeAlias = defaultdict[int, Stack]


class Racks:
    """The idle lines of one wire. A forked child begins with none."""

    __slots__ = ("__weakref__", "_buried", "_loops", "_threads")

    def __init__(self) -> None:
        self._threads: Rack = defaultdict(deque)
        self._loops: dict[asyncio.AbstractEventLoop, Rack] = {}
        self._buried: list[Line] = []
        follow_forks(self)

    def stack(self, db: int) -> Stack:
        """The idle lines that the caller may take from (and put back to) the right end."""
        if not in_greenlet():
            return self._threads[db]
        loop = asyncio.get_running_loop()
        rack = self._loops.get(loop)
        return (self._add_rack(loop) if rack is None else rack)[db]

    def _add_rack(self, loop: asyncio.AbstractEventLoop) -> Rack:
        # asyncio.run() once per job leaves a closed loop, with lines, behind every time.
        for gone in [each for each in self._loops if each.is_closed()]:
            _empty(self._loops.pop(gone))
        return self._loops.setdefault(loop, defaultdict(deque))

    def close(self) -> None:
        """Drops every idle line; those of a loop in another thread are dropped by that loop."""
        _empty(self._threads)
        here = _running_loop()
        for loop in list(self._loops):
            rack = self._loops.pop(loop)
            if loop is here or not loop.is_running():
                _empty(rack)
            else:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_empty, rack)

    def begin_in_child(self) -> None:
        """The sockets are the parent's: leaves them without a word."""
        threads, loops = self._threads, self._loops
        self._threads, self._loops = defaultdict(deque), {}
        for line in _lines_of(threads):
            line.abandon()
        for rack in loops.values():
            for line in _lines_of(rack):
                line.abandon()
                # Finalising it here would reach into the parent's event loop.
                self._buried.append(line)

    def __len__(self) -> int:
        racks = [self._threads, *list(self._loops.values())]
        return sum(len(stack) for rack in racks for stack in list(rack.values()))


def drop_all(stack: Stack) -> None:
    """Drops what lies idle in the stack."""
    while stack:
        try:
            stack.pop().drop()
        except IndexError:
            return


def _empty(rack: Rack) -> None:
    for stack in list(rack.values()):
        drop_all(stack)


def _lines_of(rack: Rack) -> list[Line]:
    return [line for stack in list(rack.values()) for line in list(stack)]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
