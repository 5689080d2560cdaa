"""The clocks that entries live by: this machine's, unless a test has stopped them.

Two, because a machine's clock may be set: lives in this process's memory are reckoned by one that
only goes on, moments that other machines read by the time of day. Waits and time limits are not
reckoned by these.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from cachedorm.errors import ConfigurationError


class Clock(Protocol):
    """Seconds that only go on, and milliseconds since the epoch."""

    def monotonic(self) -> float: ...

    def now_ms(self) -> int: ...


class SystemClock:
    """This machine's."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


_SYSTEM = SystemClock()
_clock: Clock = _SYSTEM


def monotonic() -> float:
    """Seconds since some moment, never set back."""
    return _clock.monotonic()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return _clock.now_ms()


@contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """For the whole process, within the block; ConfigurationError if it is replaced already."""
    global _clock  # noqa: PLW0603 - one time for everybody, as the machine has
    if _clock is not _SYSTEM:
        raise ConfigurationError(
            f"the clock is {_clock!r} already; use that one, or leave it first"
        )
    _clock = clock
    try:
        yield
    finally:
        _clock = _SYSTEM
