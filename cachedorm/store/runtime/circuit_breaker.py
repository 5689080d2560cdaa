"""The circuit breaker: after a few failures in a row, Redis is tried only now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachedorm.errors import CacheUnavailable
from cachedorm.store.runtime.forks import follow_forks

FAILURES = 3
COOL_DOWN = 1.0


class CircuitBreaker:
    """Closed: every caller may ask. Open: none may, except one trial after each cool-down.

    A caller reports the outcome with the ticket that ``enter`` returned: ``succeeded``,
    ``failed``, or ``gave_up`` if it was cancelled. ``changed`` is called when the breaker opens
    and when it closes; the last call always agrees with the state.
    """

    __slots__ = (
        "__weakref__",
        "_changed",
        "_clock",
        "_cool_down",
        "_failures_max",
        "_lock",
        "_retry_at",
        "_telling",
        "_tickets",
        "_told",
        "_trial",
        "failures",
        "is_open",
    )

    def __init__(
        self,
        failures: int = FAILURES,
        cool_down: float = COOL_DOWN,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[bool], None] | None = None,
    ) -> None:
        self._failures_max = failures
        self._cool_down = cool_down
        self._clock = clock
        self._changed = changed
        self.failures = 0
        self._retry_at = 0.0
        self._tickets = 0
        # The ticket of the running trial; 0: none.
        self._trial = 0
        self.is_open = self._told = False
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        follow_forks(self)

    def enter(self) -> int:
        """A ticket to ask with. Raises CacheUnavailable while the breaker is open."""
        return self._enter_open() if self.is_open else 0

    def _enter_open(self) -> int:
        with self._lock:
            if not self.is_open:
                return 0
            if self._trial or self._clock() < self._retry_at:
                raise CacheUnavailable("Redis failed a moment ago and is not asked yet")
            self._tickets += 1
            self._trial = self._tickets
            return self._trial

    def succeeded(self, ticket: int) -> None:
        """Redis answered: close, whoever asked."""
        if not self.failures and not self.is_open:
            return
        with self._lock:
            self.failures = self._trial = 0
            self.is_open = False
        self._tell()

    def failed(self, ticket: int) -> None:
        """Redis did not answer. While open, only the failure of the trial counts."""
        with self._lock:
            self.failures += 1
            if ticket and ticket == self._trial:
                self._trial = 0
                self._retry_at = self._clock() + self._cool_down
            elif not self.is_open and self.failures >= self._failures_max:
                self.is_open = True
                self._retry_at = self._clock() + self._cool_down
        self._tell()

    def gave_up(self, ticket: int) -> None:
        """The caller was cancelled; if it was the trial, another caller may try at once."""
        with self._lock:
            if ticket and ticket == self._trial:
                self._trial = 0

    def retire(self) -> None:
        """Call ``changed`` no more; an observer that counts open breakers stops counting this."""
        changed, self._changed = self._changed, None
        if changed is not None and self._told:
            changed(False)

    def _tell(self) -> None:
        changed = self._changed
        while changed is not None and self._told is not self.is_open:
            # No caller waits for the observer: the one that calls it looks again before it leaves.
            if not self._telling.acquire(blocking=False):
                return
            try:
                self._told = now = self.is_open
                changed(now)
            finally:
                self._telling.release()

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._trial = 0

    def __repr__(self) -> str:
        if not self.is_open:
            return f"<CircuitBreaker closed failures={self.failures}>"
        left = max(0.0, self._retry_at - self._clock())
        return f"<CircuitBreaker {'trial' if self._trial else f'open, trial in {left:.1f} s'}>"
