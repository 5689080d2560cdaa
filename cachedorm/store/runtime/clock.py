"""The clocks that measure the age of entries: the machine's, unless a test replaces them.

There are two because the time of day may be set. Lifetimes in this process's memory use the
monotonic clock; times that other machines read use the time of day. Waits and timeouts use neither.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from cachedorm.errors import ConfigurationError


class Clock(Protocol):
    """Monotonic seconds, and milliseconds since the epoch."""

    def monotonic(self) -> float: ...

    def now_ms(self) -> int: ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


_SYSTEM = SystemClock()
_clock: Clock = _SYSTEM


def monotonic() -> float:
    """Monotonic seconds since an arbitrary moment."""
    return _clock.monotonic()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return _clock.now_ms()


@contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """Replace the clocks of the process within the block; ConfigurationError if nested."""
    global _clock  # noqa: PLW0603 - one clock for the process, as the machine has
    if _clock is not _SYSTEM:
        raise ConfigurationError(
            f"the clock is {_clock!r} already; use that one, or leave it first"
        )
    _clock = clock
    try:
        yield
    finally:
        _clock = _SYSTEM
