"""FastAPI: a Cache for the application's lifespan, and a session for each request.

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

_logger = logging.getLogger("cachedorm")


class Warming:
    """Warm sets being filled in the background, one after the other.

    ``warmed``: the sets that are done. ``failed``: the error of each set that failed. It is not
    raised: a cold cache is slower but not wrong.
    """

    def __init__(self, cache: Cache, sets: Iterable[WarmSet]) -> None:
        self.warmed: list[Warmed] = []
        self.failed: dict[str, Exception] = {}
        self._cache = cache
        self._task = asyncio.create_task(self._fill(tuple(sets)), name="cachedorm-warming")

    @property
    def done(self) -> bool:
        """Whether all sets are filled or failed."""
        return self._task.done()

    async def wait(self, seconds: float) -> bool:
        """Wait ``seconds`` at most; True if done. The rest continues in the background."""
        await asyncio.wait({self._task}, timeout=seconds)
        return self._task.done()

    async def stop(self) -> None:
        """Cancel the warming. Entries stored so far stay valid."""
        self._task.cancel()
        # asyncio.wait, not await: the task's cancellation must not look like the caller's.
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            _logger.error("warming at startup failed: %r", error)

    async def _fill(self, sets: Iterable[WarmSet]) -> None:
        for each in sets:
            try:
                self.warmed.append(await self._cache.awarm(each))
            except (CachedormError, SQLAlchemyError, OSError) as error:
                self.failed[each.name] = error
                reason = str(error).partition("\n")[0]
                _logger.warning("warming %s at startup failed: %s", each.name, reason)

    def __repr__(self) -> str:
        state = "done" if self.done else "in progress"
        return f"<Warming {state} warmed={len(self.warmed)} failed={sorted(self.failed)}>"


@asynccontextmanager
async def serving(
    cache: Cache,
    sessions: async_sessionmaker[AsyncSession],
    *,
    warm: Iterable[WarmSet] = (),
    ready_within: float = 2.0,
) -> AsyncIterator[Warming]:
    """The lifespan of an application: attach and warm the cache, and close it at the end.

    Waits ``ready_within`` seconds at most for the warming; a task fills the rest while the
    application serves. The caller disposes of the engine afterwards.
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
    """A dependency that gives each request its own session, closed when the request ends.

    ``find`` returns the application's factory: ``Depends(session_of(lambda request:
    request.app.state.sessions))``. It does not commit: the client could not see a commit that
    fails after the response was sent.
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
            # The database failed after the response was sent. Raising now would close the
            # connection that the client reuses for its next request.
            _logger.warning("closing a session after its request: %s", error)

    return session
