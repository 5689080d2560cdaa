"""One load of a key for all callers of this process that miss it at the same time.

A caller may take the result of a flight only if the result contains every commit that returned
before the caller's read. Either of two facts proves that:

* The flight read its last source (the database, or a value published in Redis) after the caller's
  read began. Reads are counted in ticks, so "after" needs no clock.
* The caller's own read saw the flight's lease in place, and the stamps that the lease was granted
  with. Every commit removes the lease or a stamp before it returns, so up to that moment the
  flight had missed none.

Flights are separate per domain: threads wait for threads, greenlets for greenlets of their loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cachedorm.errors import NotCacheable
from cachedorm.store.protocol.entry import ABSENT, Format, lease_slot
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime.concurrency import Signal, domain, signal
from cachedorm.store.runtime.forks import follow_forks

FlightKey = tuple[Hashable, str]

# True while the caller loads for others: a flight it waits for could be waiting for it.
_LEADING: Final[ContextVar[bool]] = ContextVar("cachedorm_leading", default=False)


# A named tuple, not a dataclass: a read of many keys makes one for each, in a fifth of the time.
class ReadSnapshot(NamedTuple):
    """What a caller's read saw of an entry before the fill, and the tick at which it began.

    ``expired``: it saw a value that is valid except for its time. ``lease``: the caller's lease to
    refresh the value that it saw.
    """

    tick: int
    slot: bytes | None = None
    server: bytes = b""
    stamps: Sequence[bytes | None] = ()
    available: bool = True
    expired: bool = False
    lease: Granted | None = None


@dataclass(frozen=True, slots=True)
class FillResult:
    """The result of a fill. If not ``shared``, followers must load for themselves.

    ``slot``: the bytes in Redis, if the value was read there or published.
    """

    value: Any
    payload: bytes | None = None
    shared: bool = True
    slot: bytes | None = None


@dataclass(slots=True, eq=False)
class Flight:
    """One caller's load of a value, and what its followers need to know."""

    place: FlightKey
    landing: Signal = field(default_factory=signal)
    lease: Granted | None = None
    moment: int = -1
    loading: bool = False
    leased: bool | None = None
    followers: int = 0
    landed: FillResult | None = None
    failed: bool = False

    def covers(self, asked: ReadSnapshot) -> bool:
        """Return whether the result contains every commit before the caller's read."""
        return self.moment > asked.tick or self._seen_by(asked)

    def may_cover(self, asked: ReadSnapshot) -> bool:
        """Return the same, or True while the flight has yet to read its last source."""
        return not self.loading or self.covers(asked)

    def _seen_by(self, asked: ReadSnapshot) -> bool:
        lease = self.lease
        return (
            lease is not None
            and asked.slot == (lease.over or lease_slot(lease.token))
            # A writer that knew the tag but not the entry has left the lease alone.
            and tuple(asked.stamps) == lease.stamps
        )


class Flights:
    """The flights of one region in this process. Followers block until the leader is done."""

    def __init__(self) -> None:
        self.now = 0
        self.begin_in_child()
        follow_forks(self)

    def begin_in_child(self) -> None:
        """Begin without flights: in a forked child, the parent's leaders never finish."""
        self._lock = threading.Lock()
        self._flying: dict[FlightKey, Flight] = {}

    def tick(self) -> int:
        """Return a tick later than any before; call it just before a source is read."""
        with self._lock:
            self.now += 1
            return self.now

    def share(
        self,
        key: str,
        form: Format,
        asked: ReadSnapshot,
        lead: Callable[[Flight | None], FillResult],
        patience: float | None,
    ) -> tuple[FillResult, float]:
        """Return the result, as leader or follower, and the seconds spent waiting for others.

        ``lead`` gets the flight it leads. It gets None if the caller loads alone: after
        ``patience`` seconds of waiting, or when leaders failed.
        """
        place = (domain(), key)
        if patience is None and _LEADING.get():
            patience = 0.0
        began, failures = time.monotonic(), 0
        while failures < 2:
            flight, mine, ahead = self._board(place, asked)
            if mine:
                if ahead is not None:
                    ahead.landing.wait(patience)
                waited = time.monotonic() - began if ahead is not None else 0.0
                return self._lead(flight, form, lead), waited
            if not flight.landing.wait(patience):
                break
            landed = flight.landed
            if landed is not None and landed.shared and flight.covers(asked):
                value = landed.value
                if value is not ABSENT:
                    # A leader's value may be mutable, so followers decode their own copy.
                    assert landed.payload is not None
                    value = form.decode(landed.payload)
                return FillResult(value, slot=landed.slot), time.monotonic() - began
            failures += flight.failed or (landed is not None and not landed.shared)
        waited = time.monotonic() - began
        return lead(None), waited

    def _board(self, place: FlightKey, asked: ReadSnapshot) -> tuple[Flight, bool, Flight | None]:
        """Return a flight, whether the caller leads it, and a flight to wait for first."""
        with self._lock:
            flying = self._flying.get(place)
            if flying is not None and flying.may_cover(asked):
                flying.followers += 1
                return flying, False, None
            flight = self._flying[place] = Flight(place)
            # Behind a writer's intent (or without Redis) nothing tells a later caller that it may
            # join, so one flight waits for the other: two queries, however many callers.
            ahead = flying if flying is not None and flying.leased is False else None
            return flight, True, ahead

    def _lead(
        self, flight: Flight, form: Format, lead: Callable[[Flight], FillResult]
    ) -> FillResult:
        leading = _LEADING.get()
        _LEADING.set(True)
        try:
            landed = lead(flight)
            self._leave(flight)
            flight.landed = _for_followers(landed, form) if flight.followers else landed
        except Exception:
            flight.failed = True
            raise
        finally:
            # Also when cancelled: followers must not wait for a leader that is gone.
            _LEADING.set(leading)
            self._leave(flight)
            flight.landing.set()
        return landed

    def _leave(self, flight: Flight) -> None:
        with self._lock:
            if self._flying.get(flight.place) is flight:
                del self._flying[flight.place]

    def __repr__(self) -> str:
        return f"Flights({len(self._flying)} in the air)"


def _for_followers(landed: FillResult, form: Format) -> FillResult:
    """Add the payload, before the leader's caller can change the value."""
    if landed.payload is not None or landed.value is ABSENT or not landed.shared:
        return landed
    try:
        return FillResult(landed.value, form.encode(landed.value), slot=landed.slot)
    except NotCacheable:
        return FillResult(None, shared=False)
