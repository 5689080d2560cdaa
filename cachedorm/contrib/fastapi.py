"""FastAPI: a Cache that lives as long as the application, and sessions for its path operations.

Needs the extra ``cachedorm[fastapi]``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from cachedorm.cache import Cache
from cachedorm.declare.queries.warmset import WarmSet
from cachedorm.errors import CachedormError
from cachedorm.orm.warming.warmer import Warmed

try:
    from starlette.requests import HTTPConnection
except ImportError as missing:
    raise ImportError(
        "cachedorm.contrib.fastapi needs fastapi: pip install 'cachedorm[fastapi]'"
    ) from missing

logger = logging.getLogger("cachedorm")


class Warming:
    """Warm sets being filled, one after the other, while the application serves.

    ``warmed``: what is done. ``failed``: the error of each set that could not be filled; a cache
    that is not warm is slower, never wrong, so nothing is raised.
    """

    def __init__(self, cache: Cache, sets: Iterable[WarmSet]) -> None:
        self.warmed: list[Warmed] = []
        self.failed: dict[str, Exception] = {}
        self._cache = cache
        self._task = asyncio.create_task(self._fill(tuple(sets)), name="cachedorm-warming")

    @property
    def done(self) -> bool:
        """Whether nothing is left to fill."""
        return self._task.done()

    async def wait(self, seconds: float) -> bool:
        """Whether it is done, after so many seconds at most; what is left goes on."""
        await asyncio.wait({self._task}, timeout=seconds)
        return self._task.done()

    async def stop(self) -> None:
        """End it wherever it is. What was stored is good."""
        self._task.cancel()
        # Not awaited itself: its cancellation must not look like the caller's own.
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            logger.error("warming at start ended: %r", error)

    async def _fill(self, sets: Iterable[WarmSet]) -> None:
        for each in sets:
            try:
                self.warmed.append(await self._cache.awarm(each))
            except (CachedormError, SQLAlchemyError, OSError) as error:
                self.failed[each.name] = error
                reason = str(error).partition("\n")[0]
                logger.warning("warming %s at start failed: %s", each.name, reason)

    def __repr__(self) -> str:
        state = "done" if self.done else "under way"
        return f"<Warming {state} warmed={len(self.warmed)} failed={sorted(self.failed)}>"


@asynccontextmanager
async def serving(
    cache: Cache,
    sessions: async_sessionmaker[AsyncSession],
    *,
    warm: Iterable[WarmSet] = (),
    ready_within: float = 2.0,
) -> AsyncIterator[Warming]:
    """For an application's lifespan: the cache is attached and warmed, and closed at the end.

    Waits ``ready_within`` seconds at most for the warming; the rest is filled while the application
    serves, by a task that ends with it. The engine stays the caller's, to dispose of afterwards.
    """
    cache.attach(sessions)
    warming = Warming(cache, warm)
    try:
        await warming.wait(ready_within)
        yield warming
    finally:
        await warming.stop()
        cache.detach(sessions)
        await cache.aclose()


def session_of(
    find: Callable[[HTTPConnection], async_sessionmaker[AsyncSession]],
) -> Callable[[HTTPConnection], AsyncGenerator[AsyncSession, None]]:
    """A dependency that gives each request a session of its own, closed when the request ends.

    ``find`` says where the application keeps its factory: ``Depends(session_of(lambda request:
    request.app.state.sessions))``. Nothing is committed for the caller: a commit after the answer
    was sent could not be reported any more.
    """

    async def session(connection: HTTPConnection) -> AsyncGenerator[AsyncSession, None]:
        answered = False
        try:
            async with find(connection)() as opened:
                yield opened
                answered = True
        except (SQLAlchemyError, OSError) as error:
            if not answered:
                raise
            # The database went away meanwhile. The answer is on its way, and raised now this would
            # cut the connection that the client sends its next request on.
            logger.warning("closing a session after its request: %s", error)

    return session
