"""Which requests of one process run the application, and which wait for another's run.

The entries' own single flight (``store.entries.single_flight``) cannot serve here. Its leader is a
blocking call that ends with the value; this one is the application, an ASGI coroutine that streams.
Followers are released as soon as the response turns out not to be storable, before the run ends.
And a follower takes no value from the leader: it looks the response up again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

# After a response that cannot be stored, requests of its key run unshared for this long.
UNSHARED_SECONDS: Final = 5.0
UNSHARED_MAX: Final = 10_000

_LoopKey = tuple[asyncio.AbstractEventLoop, str]


class RunOutcome(Enum):
    """How a run of the application ended for those who wait for it."""

    STORED = "stored"
    NOT_STORED = "not stored"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class ResponseFlight:
    """A run in progress. ``outcome`` is set as soon as followers need not wait any more."""

    loop_key: _LoopKey
    outcome: asyncio.Future[RunOutcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class ResponseFlights:
    """The runs in progress in this process, kept apart by event loop.

    A follower looks the response up again when the run is over: a commit since the run began makes
    the stored response unservable, and then it did not answer this request.
    """

    def __init__(self) -> None:
        self._flights: dict[_LoopKey, ResponseFlight] = {}
        self._unshared: dict[str, float] = {}

    def join(self, key: str) -> tuple[ResponseFlight, bool]:
        """The flight to wait for, or a new one that the caller leads (True)."""
        loop_key = (asyncio.get_running_loop(), key)
        flight = self._flights.get(loop_key)
        if flight is not None:
            return flight, False
        flight = self._flights[loop_key] = ResponseFlight(loop_key)
        return flight, True

    def in_progress(self, key: str) -> bool:
        """Whether a run for this key is in progress in this event loop."""
        return (asyncio.get_running_loop(), key) in self._flights

    async def wait(self, flight: ResponseFlight, seconds: float) -> RunOutcome | None:
        """The outcome of another request's run; None if it takes longer than ``seconds``."""
        done, _ = await asyncio.wait((flight.outcome,), timeout=seconds)
        return flight.outcome.result() if done else None

    def finish(self, flight: ResponseFlight, outcome: RunOutcome) -> None:
        """Release the followers. The first outcome counts; a later call does nothing."""
        if self._flights.get(flight.loop_key) is flight:
            del self._flights[flight.loop_key]
        if not flight.outcome.done():
            flight.outcome.set_result(outcome)

    def suspend_sharing(self, key: str) -> None:
        """Let no request wait for this key for a while: its response cannot be stored."""
        if len(self._unshared) >= UNSHARED_MAX:
            self._unshared.clear()
        self._unshared[key] = time.monotonic() + UNSHARED_SECONDS

    def is_unshared(self, key: str) -> bool:
        """Whether sharing is suspended for this key now."""
        until = self._unshared.get(key)
        if until is None:
            return False
        if until > time.monotonic():
            return True
        del self._unshared[key]
        return False


class Admission:
    """A bound on the responses that this process stores for one rule.

    Each key counts until its time to live is over. At the bound, new keys are not stored until
    others expire: evicting a stored response would let a flood of distinct URLs push out hot ones.
    This bounds Redis too: processes times ``entries_max`` times the middleware's ``body_max``.
    """

    def __init__(self, entries_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max = entries_max
        self._clock = clock
        self._until: dict[str, float] = {}
        self._swept = 0.0

    def admit(self, key: str, ttl_ms: int) -> bool | None:
        """Whether the key is a new one; None if the rule has no room for it."""
        now = self._clock()
        new = key not in self._until
        if new and len(self._until) >= self._max:
            self._sweep(now)
            if len(self._until) >= self._max:
                return None
        self._until[key] = now + ttl_ms / 1000
        return new

    def withdraw(self, key: str) -> None:
        """Give back the room of a new key: nothing was stored."""
        self._until.pop(key, None)

    def _sweep(self, now: float) -> None:
        # At most once a second: a flood must not pay for a scan of every key.
        if now - self._swept >= 1.0:
            self._swept = now
            self._until = {key: until for key, until in self._until.items() if until > now}

    def __len__(self) -> int:
        return len(self._until)
