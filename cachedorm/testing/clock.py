"""A clock that stops until a test advances it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cachedorm.errors import ArgumentError
from cachedorm.store.runtime import clock


class FrozenClock:
    """The time for all caches of this process. Only ``advance`` moves it."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._began, self._passed = time.monotonic(), timedelta()

    @property
    def now(self) -> datetime:
        """The clock's time, in UTC."""
        return self._now + self._passed

    def advance(self, duration: timedelta | float) -> None:
        """Move the clock by a timedelta or seconds; raises ArgumentError if negative."""
        passed = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        if passed < timedelta():
            raise ArgumentError(f"advance({duration!r}): give 0 or more")
        self._passed += passed

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""
        return self._began + self._passed.total_seconds()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.now.timestamp() * 1000)

    def __repr__(self) -> str:
        return f"<FrozenClock {self.now.isoformat()}>"


@contextmanager
def frozen_clock(now: datetime | None = None) -> Iterator[FrozenClock]:
    """Freeze the clock of this process's caches within the block.

    Entries in memory then expire only by ``advance``. So do the soft expiry of ``refresh_ahead``
    and ``stale_if_error``, and times to live that a column states. ``now``: an aware datetime, the
    present by default. Redis uses its own clock and is not affected. Raises ArgumentError for a
    naive ``now``, ConfigurationError inside another such block.
    """
    if now is not None and now.tzinfo is None:
        raise ArgumentError(f"frozen_clock({now!r}): give an aware datetime, with tzinfo")
    stopped = FrozenClock(datetime.now(UTC) if now is None else now.astimezone(UTC))
    with clock.replaced(stopped):
        yield stopped
