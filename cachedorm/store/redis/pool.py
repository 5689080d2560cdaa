"""Idle connections per Redis database, last in first out, for threads and for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from typing import TypeAlias

from cachedorm.store.redis.connection import Connection
from cachedorm.store.runtime.concurrency import in_greenlet
from cachedorm.store.runtime.forks import follow_forks

ConnectionStack: TypeAlias = deque[Connection]
ConnectionsByDatabase: TypeAlias = defaultdict[int, ConnectionStack]


class IdleConnections:
    """The idle connections of one client. A forked child begins with none."""

    __slots__ = ("__weakref__", "_buried", "_loops", "_threads")

    def __init__(self) -> None:
        self._threads: ConnectionsByDatabase = defaultdict(deque)
        self._loops: dict[asyncio.AbstractEventLoop, ConnectionsByDatabase] = {}
        self._buried: list[Connection] = []
        follow_forks(self)

    def stack(self, db: int) -> ConnectionStack:
        """Return the caller's idle connections: pop from and append to the right end."""
        if not in_greenlet():
            return self._threads[db]
        loop = asyncio.get_running_loop()
        by_database = self._loops.get(loop)
        return (self._add_loop(loop) if by_database is None else by_database)[db]

    def _add_loop(self, loop: asyncio.AbstractEventLoop) -> ConnectionsByDatabase:
        # Each asyncio.run() leaves a closed loop with connections behind.
        for gone in [each for each in self._loops if each.is_closed()]:
            _empty(self._loops.pop(gone))
        return self._loops.setdefault(loop, defaultdict(deque))

    def close(self) -> None:
        """Drop every idle connection; the loop of another thread drops its own."""
        _empty(self._threads)
        here = _running_loop()
        for loop in list(self._loops):
            by_database = self._loops.pop(loop)
            if loop is here or not loop.is_running():
                _empty(by_database)
            else:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_empty, by_database)

    def begin_in_child(self) -> None:
        """Abandon the connections without a command: the sockets belong to the parent."""
        threads, loops = self._threads, self._loops
        self._threads, self._loops = defaultdict(deque), {}
        for connection in _connections_of(threads):
            connection.abandon()
        for by_database in loops.values():
            for connection in _connections_of(by_database):
                connection.abandon()
                # Finalising it here would reach into the parent's event loop.
                self._buried.append(connection)

    def __len__(self) -> int:
        all_idle = [self._threads, *list(self._loops.values())]
        return sum(len(stack) for by_database in all_idle for stack in list(by_database.values()))


def drop_all(stack: ConnectionStack) -> None:
    """Drop the idle connections of the stack."""
    while stack:
        try:
            stack.pop().drop()
        except IndexError:
            return


def _empty(by_database: ConnectionsByDatabase) -> None:
    for stack in list(by_database.values()):
        drop_all(stack)


def _connections_of(by_database: ConnectionsByDatabase) -> list[Connection]:
    return [connection for stack in list(by_database.values()) for connection in list(stack)]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
