"""The Redis client: it sends every command of this library, from threads and greenlets.

Idle connections are kept per Redis database, last in first out, so that a command is one send and
one read. Errors of Redis and of the system are raised as CacheUnavailable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from cachedorm.errors import CacheClosedError, CacheUnavailable
from cachedorm.observe import Commands
from cachedorm.store.redis.connection import Connection, ErrorReply, Word, pack, pack_all
from cachedorm.store.redis.pool import ConnectionStack, IdleConnections, drop_all
from cachedorm.store.redis.scripts import ScriptCall
from cachedorm.store.redis.server import IDENTITY, RedisServer, identity_of
from cachedorm.store.runtime.circuit_breaker import CircuitBreaker

# After these a connection is as good as before. After any other error reply it is dropped: its
# server may have become a replica, be loading, want a password, or stand in another database.
_HARMLESS = frozenset({"NOSCRIPT", "OOM", "MISCONF"})
_ASK_IDENTITY_EVERY = 1.0
_IDLE_CONNECTIONS_MAX = 64
_DATABASES_PROBED = 1024


class RedisClient:
    """A Redis client with blocking calls, for threads and SQLAlchemy's greenlets.

    Commands must be safe to run twice: a command is repeated on a new connection if the server had
    closed the first one. All raise CacheUnavailable when Redis is unavailable, refuses, or takes
    longer than the time limits (seconds). A commit has its own limit.
    """

    def __init__(
        self,
        url: str,
        connect_timeout: float = 0.25,
        operation_timeout: float = 0.25,
        commands: Commands | None = None,
    ) -> None:
        self._url = url
        self._server = RedisServer(url, connect_timeout, operation_timeout)
        self._commands = commands if commands is not None else Commands()
        self._limit = self._server.operation_timeout
        self._idle = IdleConnections()
        self._closed = False
        self._asked: dict[int, tuple[float, bytes]] = {}
        # Set by the store. None: no command is held back.
        self.breaker: CircuitBreaker | None = None

    @property
    def where(self) -> str:
        """The server as a URL, without credentials."""
        return self._server.where

    @property
    def operation_timeout(self) -> float:
        """How long (seconds) one reply may take."""
        return self._limit

    def patient(self, timeout: float) -> RedisClient:
        """Return another client of the same server with this timeout (seconds)."""
        return RedisClient(self._url, timeout, timeout)

    def mget(self, db: int, keys: Sequence[str]) -> tuple[list[bytes | None], bytes]:
        """Return the values (None for another type than a string) and the server's identity."""
        if self._commands.listeners:
            self._commands.notify(db, "mget")
        replies, connection = self._exchange(db, pack(("MGET", *keys)), 1)
        values = replies[0]
        if type(values) is not list:
            raise self._server.refusal(db, values)
        return values, connection.identity

    def call(self, db: int, *words: Word) -> Any:
        """Return the reply to one command."""
        if self._commands.listeners:
            self._commands.notify(db, str(words[0]).lower())
        reply = self._exchange(db, pack(words), 1)[0][0]
        return self._accepted(db, reply)

    def script(self, call: ScriptCall) -> tuple[Any, bytes]:
        """The reply of one script, and the identity of the server that ran it."""
        if self._commands.listeners:
            self._tell((call,))
        replies, connection = self._exchange(call.db, pack(call.by_sha()), 1)
        # Its type is asked first, without a call, because nearly all replies are no errors.
        if type(replies[0]) is ErrorReply:
            if _is_unknown_script(replies[0]):
                replies, connection = self._exchange(call.db, pack(call.by_source()), 1)
            self._accepted(call.db, replies[0])
        return replies[0], connection.identity

    def pipeline(
        self, calls: Sequence[ScriptCall], timeout: float | None = None
    ) -> tuple[list[Any], bytes]:
        """Send several scripts at once, in any databases: return replies and server identity.

        All together they may take ``timeout`` seconds, including the opening of a connection.
        """
        if not calls:
            return [], b""
        if self._commands.listeners:
            self._tell(calls)
        deadline = None if timeout is None else time.monotonic() + timeout
        replies, identity = self._run(calls, [call.by_sha() for call in calls], timeout)
        unknown = []
        for at, reply in enumerate(replies):
            if type(reply) is ErrorReply and _is_unknown_script(reply):
                unknown.append(at)
        if unknown:
            again = [calls[at] for at in unknown]
            sources = _with_sources(again)
            answers, identity = self._run(again, sources, _left(deadline))
            for at, answer in zip(unknown, answers, strict=True):
                replies[at] = answer
        for call, reply in zip(calls, replies, strict=True):
            if type(reply) is ErrorReply:
                self._accepted(call.db, reply)
        return replies, identity

    def _tell(self, calls: Sequence[ScriptCall]) -> None:
        # Once each: that a server has to be taught a script first is no second command.
        for call in calls:
            self._commands.notify(call.db, call.script.name)

    def _run(
        self, calls: Sequence[ScriptCall], commands: list[tuple[Word, ...]], timeout: float | None
    ) -> tuple[list[Any], bytes]:
        """Run each command in its call's database, on a connection of the first call's database."""
        home = here = calls[0].db
        sent: list[tuple[Word, ...]] = []
        places: list[int] = []
        for call, command in zip(calls, commands, strict=True):
            if call.db != here:
                here = call.db
                sent.append(("SELECT", here))
            places.append(len(sent))
            sent.append(command)
        if here != home:
            sent.append(("SELECT", home))
        replies, connection = self._exchange(home, pack_all(sent), len(sent), timeout)
        for command, reply in zip(sent, replies, strict=True):
            if command[0] == "SELECT":
                self._accepted(int(command[1]), reply)
        return [replies[place] for place in places], connection.identity

    def _accepted(self, db: int, reply: Any) -> Any:
        if type(reply) is ErrorReply:
            raise self._server.refusal(db, reply)
        return reply

    def _exchange(
        self, db: int, packed: bytes, count: int, timeout: float | None = None
    ) -> tuple[list[Any], Connection]:
        """Send once and read ``count`` replies, unless the circuit breaker is open."""
        breaker = self.breaker
        if breaker is None:
            return self._send(db, packed, count, timeout)
        ticket = breaker.enter() if breaker.is_open else 0
        try:
            replies, connection = self._send(db, packed, count, timeout)
        except CacheUnavailable:
            breaker.failed(ticket)
            raise
        except BaseException:
            breaker.gave_up(ticket)
            raise
        for reply in replies:
            if type(reply) is ErrorReply and reply.code != "NOSCRIPT":
                self._count_refusal(breaker, ticket, db, reply)
                return replies, connection
        # An open breaker has failures too. Asked here, because this is every hit.
        if breaker.failures:
            breaker.succeeded(ticket)
        return replies, connection

    def _count_refusal(
        self, breaker: CircuitBreaker, ticket: int, db: int, reply: ErrorReply
    ) -> None:
        # The caller raises it. A database that the server does not have is not an outage.
        if isinstance(self._server.refusal(db, reply), CacheUnavailable):
            breaker.failed(ticket)
        else:
            breaker.gave_up(ticket)

    def _send(
        self, db: int, packed: bytes, count: int, timeout: float | None = None
    ) -> tuple[list[Any], Connection]:
        """Send once and read ``count`` replies, on a held connection if there is one that lives."""
        deadline = None if timeout is None else time.monotonic() + timeout
        stack = self._idle.stack(db)
        try:
            connection = stack.pop()
        except IndexError:
            return self._exchange_on_new(db, stack, packed, count, deadline)
        try:
            limit = self._limit if timeout is None else timeout
            return self._use(connection, stack, packed, count, limit)
        except ConnectionError:
            # The server closed it while it was idle, and most likely the other idle ones too.
            drop_all(stack)
            return self._exchange_on_new(db, stack, packed, count, deadline)
        except OSError as error:
            # A path that swallows one connection's bytes swallows those of the idle ones too.
            drop_all(stack)
            raise self._server.unavailable(error) from error

    def _exchange_on_new(
        self, db: int, stack: ConnectionStack, packed: bytes, count: int, deadline: float | None
    ) -> tuple[list[Any], Connection]:
        if self._closed:
            raise CacheClosedError(f"the cache on {self._server.where} was closed")
        connection = self._server.open(db, _left(deadline))
        try:
            return self._use(connection, stack, packed, count, _left(deadline) or self._limit)
        except OSError as error:
            raise self._server.unavailable(error) from error

    def _use(
        self,
        connection: Connection,
        stack: ConnectionStack,
        packed: bytes,
        count: int,
        timeout: float,
    ) -> tuple[list[Any], Connection]:
        """One exchange; the connection is put back only if it is fit for another."""
        try:
            replies = connection.exchange(packed, count, timeout)
        except BaseException:
            # KeyboardInterrupt and CancelledError too: a reply is outstanding.
            connection.drop()
            raise
        for reply in replies:
            if type(reply) is ErrorReply and reply.code not in _HARMLESS:
                connection.drop()
                return replies, connection
        if len(stack) >= _IDLE_CONNECTIONS_MAX or self._closed:
            connection.drop()
        else:
            stack.append(connection)
        return replies, connection

    def identity_again(self, db: int) -> bytes:
        """Ask the server for its identity again, at most once a second.

        Drops the idle connections if the identity has changed.
        """
        asked_at, known = self._asked.get(db, (0.0, b""))
        if known and time.monotonic() - asked_at < _ASK_IDENTITY_EVERY:
            return known
        stack = self._idle.stack(db)
        replies, connection = self._exchange(db, pack_all(IDENTITY), len(IDENTITY))
        for reply in replies:
            self._accepted(db, reply)
        identity = identity_of(replies)
        for idle in list(stack):
            if idle.identity != identity and idle is not connection:
                drop_all(stack)
                break
        connection.identity = identity
        self._asked[db] = (time.monotonic(), identity)
        return identity

    def databases(self) -> int:
        """Return how many databases the server has (1 on Cluster).

        Reads the configuration or, if that is forbidden, selects the first 1024 databases."""
        # Not through the breaker: a server that forbids the command is available.
        reply = self._send(0, pack(("CONFIG", "GET", "databases")), 1)[0][0]
        if isinstance(reply, list) and len(reply) == 2:
            return int(reply[1])
        connection = self._server.open(0, None)
        try:
            probes: list[tuple[Word, ...]] = [("SELECT", n) for n in range(_DATABASES_PROBED)]
            replies = connection.exchange(pack_all(probes), len(probes), self._limit)
        except OSError as error:
            raise self._server.unavailable(error) from error
        finally:
            connection.drop()
        return next((n for n, reply in enumerate(replies) if reply != b"OK"), len(replies))

    def close(self) -> None:
        """Drop the idle connections; those in use are dropped after use. Idempotent."""
        self._closed = True
        self._idle.close()

    async def aclose(self) -> None:
        """Close, and wait until this loop's connections are closed."""
        self.close()
        # Transports close in the loop's next turn.
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._idle)} idle connections"
        return f"<RedisClient {self._server.where} {state}>"


def _is_unknown_script(reply: Any) -> bool:
    return type(reply) is ErrorReply and reply.code == "NOSCRIPT"


def _with_sources(calls: Sequence[ScriptCall]) -> list[tuple[Word, ...]]:
    """Return the calls; the first call of each script carries its source."""
    taught: set[bytes] = set()
    commands = []
    for call in calls:
        commands.append(call.by_sha() if call.script.sha in taught else call.by_source())
        taught.add(call.script.sha)
    return commands


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())
