"""How many responses one rule keeps: a flood of distinct URLs fills no more than that."""

from __future__ import annotations

import time
from collections.abc import Callable


class Admission:
    """The keys of one rule that this process stored, each counted until its time is up.

    A bound on Redis too: every process stores at most ``entries_max`` live responses, none larger
    than the middleware's limit, each with a time to live. When it is reached, further keys are the
    application's alone until the first of them end: what is hot is in already, and a flood that
    could push it out would be worse than one that is not cached.
    """

    def __init__(self, entries_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max = entries_max
        self._clock = clock
        self._until: dict[str, float] = {}
        self._swept = 0.0

    def admit(self, key: str, ttl_ms: int) -> bool | None:
        """None if there is no room for this key; else whether its place is a new one."""
        now = self._clock()
        new = key not in self._until
        if new and len(self._until) >= self._max:
            self._sweep(now)
            if len(self._until) >= self._max:
                return None
        self._until[key] = now + ttl_ms / 1000
        return new

    def withdraw(self, key: str) -> None:
        """Nothing was stored in this new place."""
        self._until.pop(key, None)

    def _sweep(self, now: float) -> None:
        # Once a second is enough: a flood must not pay for a look at every place.
        if now - self._swept >= 1.0:
            self._swept = now
            self._until = {key: until for key, until in self._until.items() if until > now}

    def __len__(self) -> int:
        return len(self._until)
