"""One run of the application for all who ask for the same response at once, in one process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

# How long a route is left to itself after its response could not be kept: nobody waits meanwhile.
SHUN_SECONDS: Final = 5.0
SHUNNED_MAX: Final = 10_000

Place = tuple[asyncio.AbstractEventLoop, str]


class Landing(Enum):
    """What became of a run."""

    STORED = "stored"
    NOT_STORED = "not stored"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Flight:
    """One run on its way. ``landed`` has a result as soon as the others need not wait any more."""

    place: Place
    landed: asyncio.Future[Landing] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Flights:
    """The runs of this process, kept apart by event loop.

    Whoever waited looks for itself at what was stored: a commit since the run began makes that
    unservable, and then it was not this one's answer.
    """

    def __init__(self) -> None:
        self._flying: dict[Place, Flight] = {}
        self._shunned: dict[str, float] = {}

    def board(self, key: str) -> tuple[Flight, bool]:
        """The flight to wait for, or a new one that is the caller's own (True)."""
        place = (asyncio.get_running_loop(), key)
        flight = self._flying.get(place)
        if flight is not None:
            return flight, False
        flight = self._flying[place] = Flight(place)
        return flight, True

    def is_flying(self, key: str) -> bool:
        """Whether somebody is at it."""
        return (asyncio.get_running_loop(), key) in self._flying

    async def wait(self, flight: Flight, seconds: float) -> Landing | None:
        """What became of another's run; None after so many seconds."""
        done, _ = await asyncio.wait((flight.landed,), timeout=seconds)
        return flight.landed.result() if done else None

    def land(self, flight: Flight, landing: Landing) -> None:
        """Nobody needs to wait any more. Again: no-op."""
        if self._flying.get(flight.place) is flight:
            del self._flying[flight.place]
        if not flight.landed.done():
            flight.landed.set_result(landing)

    def shun(self, key: str) -> None:
        """Responses to this are not to be kept: for a while nobody waits for one."""
        if len(self._shunned) >= SHUNNED_MAX:
            self._shunned.clear()
        self._shunned[key] = time.monotonic() + SHUN_SECONDS

    def shuns(self, key: str) -> bool:
        """Whether that is so now."""
        until = self._shunned.get(key)
        if until is None:
            return False
        if until > time.monotonic():
            return True
        del self._shunned[key]
        return False
