"""One Redis server, and how a connection to it is opened, in a thread or an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis import asyncio as redis_asyncio
from redis import connection as redis_threads
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from cachedorm.errors import CacheUnavailable, ConfigurationError
from cachedorm.store.redis.connection import (
    AsyncConnection,
    Connection,
    ErrorReply,
    SyncConnection,
    Word,
    let_go,
    pack_all,
    reply_reader,
)
from cachedorm.store.runtime.concurrency import await_, in_greenlet

# Sent on each new connection, and again when entries seem to come from another server.
IDENTITY: tuple[tuple[Word, ...], ...] = (("INFO", "server"), ("INFO", "replication"))


def identity_of(info: Sequence[bytes]) -> bytes:
    """Return 8 bytes that change when the data may have: another process, or another history.

    ``run_id`` alone repeats when a master fails over and back, ``master_replid`` alone when a
    server restarts from an old file.
    """
    facts = dict(line.split(b":", 1) for part in info for line in part.split() if b":" in line)
    if b"run_id" not in facts or b"master_replid" not in facts:
        raise ConfigurationError(
            "Redis' INFO shows no run_id and master_replid, by which entries of another server are"
            " told apart: connect to the server itself, not through a proxy that hides them"
        )
    history = facts[b"run_id"] + facts[b"master_replid"]
    return hashlib.blake2b(history, digest_size=8).digest()


class RedisServer:
    """One Redis server, named by a URL that redis-py understands (TLS and unix sockets too)."""

    def __init__(self, url: str, connect_timeout: float, operation_timeout: float) -> None:
        options = _options_of(url)
        self.connect_timeout = float(options.pop("socket_connect_timeout", connect_timeout))
        self.operation_timeout = float(options.pop("socket_timeout", operation_timeout))
        self._thread_class = options.pop("connection_class", redis_threads.Connection)
        self._loop_class = _TWINS[self._thread_class]
        self._options = options | _OURS
        self.where = _where(self._thread_class, options)
        try:
            self._thread_class(**self._options)
        except (TypeError, ValueError, RedisError):
            # Not redis-py's words: they may hold the password.
            raise ConfigurationError(
                f"the Redis URL of {self.where} has options redis-py does not know or cannot"
                f" read: {', '.join(sorted(options))}"
            ) from None

    def open(self, db: int, limit: float | None) -> Connection:
        """Open a connection on this database, within ``limit`` seconds in all.

        In a thread the system limits the resolution of a host name. Raises CacheUnavailable, or
        ConfigurationError for a database that the server does not have.
        """
        if in_greenlet():
            return await_(self._open_in_loop(db, limit))
        return self._open_in_thread(db, limit)

    def _open_in_thread(self, db: int, limit: float | None) -> Connection:
        limit = self.connect_timeout + self.operation_timeout if limit is None else limit
        end = time.monotonic() + limit
        connection = self._thread_class(**self._options, **self._timeouts(limit))
        try:
            connection.connect()
            opened = _sync_connection(connection)
            left = min(self.operation_timeout, end - time.monotonic())
            greeting = _greeting(db)
            self._greeted(opened, db, opened.exchange(pack_all(greeting), len(greeting), left))
        except BaseException as error:
            connection.disconnect()
            self._explain(error)
            raise
        return opened

    async def _open_in_loop(self, db: int, limit: float | None) -> Connection:
        limit = self.connect_timeout + self.operation_timeout if limit is None else limit
        connection = self._loop_class(**self._options, **self._timeouts(limit))
        opened: AsyncConnection | PublicAsyncConnection | None = None
        try:
            async with asyncio.timeout(limit):
                await connection.connect()
                opened = _async_connection(connection)
                greeting = _greeting(db)
                replies = await opened.ask(
                    pack_all(greeting), len(greeting), self.operation_timeout
                )
            self._greeted(opened, db, replies)
        except BaseException as error:
            (opened.drop if opened is not None else _closer(connection))()
            self._explain(error)
            raise
        return opened

    def _timeouts(self, limit: float) -> dict[str, float]:
        return {
            "socket_connect_timeout": max(0.001, min(self.connect_timeout, limit)),
            "socket_timeout": max(0.001, min(self.operation_timeout, limit)),
        }

    def _greeted(self, opened: Connection, db: int, replies: list[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise self.refusal(db, reply)
        opened.identity = identity_of(replies[-2:])

    def refusal(self, db: int, reply: ErrorReply) -> Exception:
        """Return the exception that an error reply means to the caller."""
        if "DB index is out of range" in reply.text or "SELECT is not allowed" in reply.text:
            return ConfigurationError(
                f"Redis at {self.where} has no database {db} ({reply.text}): give the region a"
                " database number the server has, or raise `databases` in its configuration"
            )
        return CacheUnavailable(f"Redis at {self.where} refused: {reply.text}")

    def _explain(self, error: BaseException) -> None:
        if isinstance(error, (RedisError, OSError)) and not isinstance(error, CacheUnavailable):
            raise self.unavailable(error) from error

    def unavailable(self, error: Exception) -> CacheUnavailable:
        """Return the error that the library raises when Redis is unavailable."""
        what = str(error) or "no answer in time"
        return CacheUnavailable(f"Redis at {self.where}: {what}")

    def __repr__(self) -> str:
        return f"<RedisServer {self.where}>"


def _greeting(db: int) -> tuple[tuple[Word, ...], ...]:
    return (("SELECT", db), *IDENTITY)


def _options_of(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(_parse_url(url))
    except ValueError:
        # Not redis-py's words nor the URL itself: either may hold the password.
        raise ConfigurationError(
            "the Redis URL cannot be read: it looks like redis://user:password@host:6379,"
            " rediss://... or unix:///path, with special characters percent-encoded"
        ) from None
    if "db" in options or _has_path(url, options):
        raise ConfigurationError(
            "the Redis URL names a database, but regions name theirs (Region(..., db=2)):"
            " leave it out of the URL"
        )
    for pool_only in ("max_connections", "timeout"):
        options.pop(pool_only, None)
    return options


def _has_path(url: str, options: dict[str, Any]) -> bool:
    """True for redis://host/something, which redis-py would silently ignore."""
    return "path" not in options and urlsplit(url).path.strip("/") != ""


def _where(connection_class: type, options: dict[str, Any]) -> str:
    if "path" in options:
        return f"unix://{options['path']}"
    scheme = "rediss" if connection_class is redis_threads.SSLConnection else "redis"
    host = str(options.get("host", "localhost"))
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{options.get('port', 6379)}"


def _quiet_options() -> dict[str, None]:
    """What keeps redis-py from sending CLIENT SETINFO; the words changed between its versions."""
    known = inspect.signature(redis_threads.AbstractConnection.__init__).parameters
    if "driver_info" in known:
        return {"driver_info": None}
    return dict.fromkeys({"lib_name", "lib_version"} & set(known))


# redis-py leaves this one without annotations.
_parse_url: Callable[[str], dict[str, Any]] = redis_threads.parse_url

# RESP2, because nothing may arrive unasked; no retries, because the client decides on them.
_OURS: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "health_check_interval": 0,
    "retry_on_timeout": False,
    "retry": Retry(NoBackoff(), 0),
    **_quiet_options(),
}
_TWINS: dict[type, Any] = {
    redis_threads.Connection: redis_asyncio.Connection,
    redis_threads.SSLConnection: redis_asyncio.SSLConnection,
    redis_threads.UnixDomainSocketConnection: redis_asyncio.UnixDomainSocketConnection,
}


def _sync_connection(connection: Any) -> SyncConnection | PublicSyncConnection:
    """Return the fast connection if redis-py exposes its socket and hiredis is installed."""
    sock, reader = getattr(connection, "_sock", None), reply_reader()
    if isinstance(sock, socket.socket) and reader is not None:
        return SyncConnection(sock, reader, connection.disconnect)
    return PublicSyncConnection(connection)


def _async_connection(connection: Any) -> AsyncConnection | PublicAsyncConnection:
    transport: Any = getattr(getattr(connection, "_writer", None), "transport", None)
    reader = reply_reader()
    # Not isinstance: uvloop's transports have the methods, but are not asyncio.Transport.
    if hasattr(transport, "set_protocol") and reader is not None:
        return AsyncConnection(transport, reader, _closer(connection))
    return PublicAsyncConnection(connection)


def _closer(connection: Any) -> Callable[[], None]:
    """Return a function that closes an event loop's connection at once, in the loop's thread."""

    def close() -> None:
        writer = getattr(connection, "_writer", None)
        # redis-py warns of connections that are finalised with these in place.
        connection._writer = connection._reader = None
        if writer is not None:
            _abort(writer.transport)

    return close


def _abort(transport: Any) -> None:
    try:
        transport.abort()
    except RuntimeError:
        # Its loop is closed and will not finish this. Without the call the socket leaks.
        with contextlib.suppress(Exception):
            transport._call_connection_lost(None)


_READS_ARE_TIMED = (
    "timeout" in inspect.signature(redis_threads.AbstractConnection.read_response).parameters
)
_CODES = {NoScriptError: "NOSCRIPT", OutOfMemoryError: "OOM", ReadOnlyError: "READONLY"}


def _error_reply(error: ResponseError) -> ErrorReply:
    # redis-py takes the code off the text of the errors it knows.
    return ErrorReply(f"{_CODES.get(type(error), '')} {error}".strip())


class PublicSyncConnection:
    """A connection that uses only redis-py's public methods: slower, but always available."""

    def __init__(self, connection: Any) -> None:
        self.identity = b""
        self._connection = connection

    def exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        end = time.monotonic() + timeout
        try:
            self._connection.send_packed_command([packed])
            return [self._read(end) for _ in range(count)]
        except RedisError as error:
            raise _as_os_error(error) from error

    def _read(self, end: float) -> Any:
        # Older ones time every read on its own, by the operation's limit.
        limit = {"timeout": max(0.001, end - time.monotonic())} if _READS_ARE_TIMED else {}
        try:
            return self._connection.read_response(**limit)
        except ResponseError as error:
            return _error_reply(error)

    def drop(self) -> None:
        self._connection.disconnect()

    def abandon(self) -> None:
        # Sees that this is another process, and closes its own descriptor only.
        self._connection.disconnect()


class PublicAsyncConnection:
    """A connection that uses only redis-py's public methods, for greenlets."""

    def __init__(self, connection: Any) -> None:
        self.identity = b""
        self._connection = connection
        self.drop = _closer(connection)

    def exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        return await_(self.ask(packed, count, timeout))

    async def ask(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        try:
            async with asyncio.timeout(timeout):
                await self._connection.send_packed_command([packed])
                return [await self._read() for _ in range(count)]
        except RedisError as error:
            raise _as_os_error(error) from error

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return _error_reply(error)

    def abandon(self) -> None:
        writer = getattr(self._connection, "_writer", None)
        if writer is not None:
            let_go(writer.get_extra_info("socket"))


def _as_os_error(error: RedisError) -> OSError:
    timed_out = isinstance(error, redis_asyncio.TimeoutError)
    return (TimeoutError if timed_out else ConnectionError)(str(error))
