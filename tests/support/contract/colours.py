"""Running a test's code as a thread does and as SQLAlchemy's greenlets do."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.store.runtime.concurrency import await_, in_greenlet

T = TypeVar("T")

THREADS, GREENLETS = "threads", "greenlets"


def run_in_greenlet(act: Callable[[], T], close: Callable[[], None]) -> T:
    """Run it in a greenlet of a fresh loop, and close what it opened before the loop ends."""

    async def main() -> T:
        try:
            return await greenlet_spawn(act)
        finally:
            close()
            # Transports close in the loop's next turn.
            await asyncio.sleep(0)

    return asyncio.run(main())


def together(*acts: Callable[[], T]) -> list[T]:
    """Run all of them at once in the caller's colour; their results in order."""
    if in_greenlet():
        return await_(_gather(acts))
    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(lambda act: act(), acts))


async def _gather(acts: tuple[Callable[[], T], ...]) -> list[T]:
    spawned: list[Any] = [greenlet_spawn(act) for act in acts]
    return list(await asyncio.gather(*spawned))
