"""Read-only access to a Redis server for the command line and other tools.

Any program may have written what it returns: keys are bytes, and texts may hold anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachedorm.errors import CacheUnavailable
from cachedorm.store.protocol.entry import HEADER_BYTES
from cachedorm.store.protocol.interest_registry import REGISTRY_DB, REGISTRY_KEY, Interest
from cachedorm.store.redis import scripts
from cachedorm.store.redis.scripts import ScriptCall

if TYPE_CHECKING:
    from cachedorm.store.redis.client import RedisClient

SURVEY_KEYS_PER_CALL = 500
# Seconds. A tool rather waits than reports that Redis is slow at the moment.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key: its type in Redis' words, its first bytes, its size and its remaining TTL.

    ``size``: bytes of a string, live intents of a sorted set. ``left_ms`` is None for a key
    without a TTL. A key that does not exist has the type ``none``.
    """

    key: bytes
    type: str
    begin: bytes
    size: int
    left_ms: int | None


@dataclass(frozen=True, slots=True)
class Registrations:
    """The interest registry: when it was made (server's ms), and what is in it.

    Each interest comes with the time (server's ms) up to which it is kept. ``others`` counts texts
    in a format that this version does not know.
    """

    born_ms: int
    interests: tuple[tuple[Interest, int], ...]
    others: int


class Survey:
    """Read one Redis server, on separate connections.

    Every method may raise CacheUnavailable, also if the server refuses a command.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client.patient(PATIENCE)
        # How long (seconds) the cache itself waits for one reply.
        self.operation_timeout = client.operation_timeout

    @property
    def where(self) -> str:
        """Return the server's address, without user and password."""
        return self._client.where

    def info(self) -> dict[str, str]:
        """Return all sections of Redis' INFO."""
        text = _text(self._client.call(REGISTRY_DB, "INFO"))
        lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
        return {name: value for name, colon, value in lines if colon}

    def setting(self, name: str) -> str | None:
        """Return one setting of the server, or None if it does not exist or may not be read."""
        try:
            reply = self._client.call(REGISTRY_DB, "CONFIG", "GET", name)
        except CacheUnavailable:
            return None
        return _text(reply[1]) if isinstance(reply, list) and len(reply) == 2 else None

    def databases(self) -> int:
        """Return how many databases the server has."""
        return self._client.databases()

    def size(self, db: int) -> int:
        """Return how many keys the database has."""
        return int(self._client.call(db, "DBSIZE"))

    def latencies(self, count: int) -> list[float]:
        """Return the seconds that each of ``count`` TIME commands took, shortest first.

        TIME and not PING: Redis refuses PING while saving fails.
        """
        self._client.call(REGISTRY_DB, "TIME")
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self._client.call(REGISTRY_DB, "TIME")
            taken.append(time.perf_counter() - began)
        return sorted(taken)

    def clock_lead(self) -> tuple[float, float]:
        """Return the seconds by which Redis' clock is ahead of ours, and the precision."""
        self._client.call(REGISTRY_DB, "TIME")
        before = time.time()
        seconds, microseconds = self._client.call(REGISTRY_DB, "TIME")
        after = time.time()
        there = int(seconds) + int(microseconds) / 1e6
        return there - (before + after) / 2, (after - before) / 2

    def keys(self, db: int, limit: int | None = None, pattern: str = "*") -> Iterator[list[bytes]]:
        """Yield the keys of the database in batches, all of them or about ``limit``.

        As with SCAN, a key may come twice; one that is made or deleted meanwhile may not come.
        """
        cursor, found = 0, 0
        while True:
            words = ("SCAN", cursor, "MATCH", pattern, "COUNT", SURVEY_KEYS_PER_CALL)
            reply = self._client.call(db, *words)
            cursor, batch = int(reply[0]), list(reply[1])
            if limit is not None:
                batch = batch[: limit - found]
            found += len(batch)
            if batch:
                yield batch
            if not cursor or (limit is not None and found >= limit):
                return

    def at(self, db: int, keys: Sequence[str | bytes], begin: int = HEADER_BYTES) -> list[KeyInfo]:
        """Return what these keys hold, read atomically in batches of 500."""
        found: list[KeyInfo] = []
        for start in range(0, len(keys), SURVEY_KEYS_PER_CALL):
            batch = keys[start : start + SURVEY_KEYS_PER_CALL]
            reply, _ = self._client.script(ScriptCall(db, scripts.SURVEY, batch, (begin,)))
            found += [_seen(key, each) for key, each in zip(batch, reply, strict=True)]
        return found

    def read(self, db: int, keys: Sequence[str]) -> tuple[list[bytes | None], bytes]:
        """Return the bytes at these keys as a cached read gets them, and the server's identity."""
        return self._client.mget(db, keys)

    def identity_again(self, db: int) -> bytes:
        """Ask the server for its identity again, at most once a second."""
        return self._client.identity_again(db)

    def registrations(self) -> Registrations | None:
        """Return the interests registered in Redis, or None."""
        if self.at(REGISTRY_DB, [REGISTRY_KEY])[0].type != "hash":
            return None
        reply = self._client.call(REGISTRY_DB, "HGETALL", REGISTRY_KEY)
        held = {_text(name): _text(value) for name, value in _pairs(reply)}
        born = held.pop("~born", "0")
        held.pop("~version", None)
        known = [(Interest.parse(name), _until_ms(value)) for name, value in held.items()]
        interests = tuple((each, until) for each, until in known if each is not None)
        return Registrations(
            int(born) if born.isdecimal() else 0, interests, len(known) - len(interests)
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections that were opened in greenlets, too."""
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<Survey {self._client!r}>"


def _seen(key: str | bytes, reply: Sequence[Any]) -> KeyInfo:
    kind, begin, size, left_ms = reply
    raw = key.encode() if isinstance(key, str) else key
    return KeyInfo(raw, _text(kind), begin, int(size), None if left_ms == -1 else int(left_ms))


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=False)


def _until_ms(value: str) -> int:
    until = value.rpartition(" ")[2]
    return int(until) if until.isdecimal() else 0


def _text(raw: object) -> str:
    return raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else str(raw)
