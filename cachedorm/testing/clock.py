"""A clock that stands still until a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cachedorm.errors import ArgumentError
from cachedorm.store.runtime import clock


class FrozenClock:
    """What the caches of this process take for the time. ``advance`` moves it, nothing else."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._began, self._passed = time.monotonic(), timedelta()

    @property
    def now(self) -> datetime:
        """The time that it shows, in UTC."""
        return self._now + self._passed

    def advance(self, duration: timedelta | float) -> None:
        """Let so much time pass: a timedelta or seconds. ArgumentError if it is negative."""
        passed = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        if passed < timedelta():
            raise ArgumentError(f"advance({duration!r}): time only goes on; give 0 or more")
        self._passed += passed

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._began + self._passed.total_seconds()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.now.timestamp() * 1000)

    def __repr__(self) -> str:
        return f"<FrozenClock {self.now.isoformat()}>"


@contextmanager
def frozen_clock(now: datetime | None = None) -> Iterator[FrozenClock]:
    """Within the block, entries in this process's memory grow older by ``advance`` alone.

    So do the soft moments of ``refresh_ahead`` and ``stale_if_error``, and the ends that rows
    state for themselves (``expires_at="expires_at"``). It begins ``now`` (aware; by default the
    time it is) and holds for the whole process. Redis goes by its own clock: its keys end when
    they end.
    Raises ArgumentError for a naive ``now``, ConfigurationError inside another such block.
    """
    if now is not None and now.tzinfo is None:
        raise ArgumentError(f"frozen_clock({now!r}): give an aware datetime, with tzinfo")
    stopped = FrozenClock(datetime.now(UTC) if now is None else now.astimezone(UTC))
    with clock.replaced(stopped):
        yield stopped
