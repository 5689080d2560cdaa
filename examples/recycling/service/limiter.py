"""Counting requests in Redis, database 8: a moving window for each limit and each who."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from math import ceil
from typing import Final

from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from examples.recycling.limit import Limit

logger = logging.getLogger("recycling")

RATE_DB: Final = 8
# After a failure nobody asks again for so long: a Redis that hangs would cost every request the
# time limit.
PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """How one limit stands for one caller, this request counted. reset: seconds from now."""

    amount: int
    remaining: int
    reset: int
    spent: bool
    """Whether there was room for this request."""


class CannotCount(Exception):
    """Redis does not answer, and the limit is closed."""


class Limiter:
    """Counts; `url` names the Redis and its database, which has `timeout` seconds for an answer.

    Connects when it first counts.
    """

    def __init__(self, url: str, timeout: float) -> None:
        # Each command is tried once: the time limit is the request's, not the attempt's.
        self._pool = ConnectionPool.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._windows = MovingWindowRateLimiter(storage)
        self._paused_until = 0.0

    async def spend(self, limit: Limit, name: str, who: str) -> Window | None:
        """Count one request of ``who``; None if that cannot be done and the limit is open.

        Raises CannotCount if it cannot be done and the limit is closed.
        """
        if time.monotonic() >= self._paused_until:
            try:
                return await self._spend(limit, name, who)
            except StorageError as error:
                self._paused_until = time.monotonic() + PAUSE
                logger.warning("rate limits are not counted: %r", error.storage_error)
        if limit.closed:
            raise CannotCount(name)
        return None

    async def _spend(self, limit: Limit, name: str, who: str) -> Window:
        item = limit.item
        spent = await self._windows.hit(item, name, who)
        stats = await self._windows.get_window_stats(item, name, who)
        reset = max(1, ceil(stats.reset_time - time.time()))
        return Window(item.amount, max(0, stats.remaining), reset, spent)

    async def close(self) -> None:
        """Let go of Redis."""
        await self._pool.aclose()

    def __repr__(self) -> str:
        state = "paused" if time.monotonic() < self._paused_until else "counting"
        return f"<Limiter {state}>"
