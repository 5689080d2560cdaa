"""The way of a miss: a lease, the database, and the value published if the lease still stands."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from cachedorm.errors import CacheUnavailable, NotCacheable
from cachedorm.observe import Observer
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entry import (
    ABSENT,
    HEADER_BYTES,
    STAMP_BYTES,
    judge,
    new_token,
    prefix,
    value_slot,
)
from cachedorm.store.flight import Asked, Flight, Flights, Landed
from cachedorm.store.keys import EntryKey
from cachedorm.store.slots import Acquired, Filled, Granted, Held, Refused, Slots, Valid

FIRST_PAUSE: Final = 0.002
LAST_PAUSE: Final = 0.025


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """A region's numbers. ``jitter``: the share of its TTL that an entry may live less."""

    name: str
    db: int
    ttl_ms: int
    negative_ttl_ms: int = 60_000
    jitter: float = 0.05
    lease_ms: int = 3000
    wait_ms: int = 200
    intent_ms: int = 30_000
    intents: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the database answered: a value, or ABSENT for "no such row".

    ``ttl_ms`` is the row's own time to live (not jittered; not published if it is over).
    Not ``publish``: this answer is for its reader alone.
    """

    value: Any
    ttl_ms: int | None = None
    publish: bool = True


class Unleased(Enum):
    """Why there is no lease to be had: load, and publish nothing."""

    INTENT = "intent"
    INTEREST = "interest"
    HELD = "lease"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Served:
    """Somebody published while we asked for the lease."""

    value: Any


class Fill:
    """The misses of one region: how its entries are leased, loaded and published."""

    def __init__(
        self, settings: RegionSettings, slots: Slots, observer: Observer, flights: Flights
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._observer = observer
        self._flights = flights
        self.outlived = 0

    def run(
        self, key: EntryKey, load: Callable[[], Loaded], asked: Asked, flight: Flight | None
    ) -> Landed:
        """The value by lease and load; by load alone where there is no lease to be had."""
        if flight is None:
            return self._load_unpublished(key, load, Flight((None, key)))
        match self.obtain(key, asked, flight):
            case Served(value):
                return Landed(value)
            case Granted() as lease:
                flight.lease, flight.leased = lease, True
                return self._load_and_publish(key, load, lease, flight)
            case _:
                return self._load_unpublished(key, load, flight)

    def obtain(
        self, key: EntryKey, asked: Asked, flight: Flight, *, wait: bool = True
    ) -> Granted | Served | Unleased:
        """The lease, or the value that made it needless, or why there is neither.

        Waits for another process's lease, at most ``wait_ms`` in all.
        """
        if not asked.available:
            # The read a moment ago has waited for Redis already.
            return Unleased.UNAVAILABLE
        deadline = time.monotonic() + (self._settings.wait_ms / 1000 if wait else 0.0)
        try:
            got = self._obtain(key, asked, flight, deadline)
        except CacheUnavailable as error:
            self._observer.error("acquire", error)
            return Unleased.UNAVAILABLE
        if isinstance(got, Unleased):
            self._observer.bypass(self._settings.name, got.value)
        return got

    def _obtain(
        self, key: EntryKey, asked: Asked, flight: Flight, deadline: float
    ) -> Granted | Served | Unleased:
        # A value that our read saw and could not use would be "valid" to ACQUIRE for ever.
        unusable = asked.slot if asked.slot and asked.slot[:1] == b"V" else None
        server = asked.server
        while True:
            flight.moment = self._flights.tick()
            got = self.acquire(key, server, unusable)
            match got:
                case Granted():
                    return got
                case Valid(slot, server):
                    served = self._decoded(key, _payload(slot, key, server))
                    if served is not None:
                        return served
                    if slot == unusable:
                        return Unleased.HELD
                    unusable = slot
                    continue
                case Held():
                    served, server = self._await_holder(key, flight, deadline)
                    if served is not None:
                        return served
                case Refused(reason):
                    return Unleased(reason)
            if time.monotonic() >= deadline:
                return Unleased.HELD

    def acquire(self, key: EntryKey, server: bytes, unusable: bytes | None) -> Acquired:
        """One ACQUIRE with a fresh token."""
        settings = self._settings
        longest = max(settings.ttl_ms, settings.negative_ttl_ms, key.ttl_ms or 0)
        return self._slots.acquire(
            settings.db,
            key,
            new_token(),
            settings.lease_ms,
            longest + settings.lease_ms,
            server=server or self._slots.identity_again(settings.db),
            replace=unusable,
        )

    def _await_holder(
        self, key: EntryKey, flight: Flight, deadline: float
    ) -> tuple[Served | None, bytes]:
        """The holder's value; None once its lease is gone, or the time is up."""
        pause, began, server = FIRST_PAUSE, time.monotonic(), b""
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._slots.sleep(min(pause, left))
                pause = min(pause * 1.5, LAST_PAUSE)
                flight.moment = self._flights.tick()
                values, server = self._slots.read(self._settings.db, (key, *key.stamps))
                verdict = judge(values[0], prefix(key.form, server), values[1:])
                served = self._decoded(key, verdict)
                if served is not None or (values[0] or b"")[:1] != b"L":
                    return served, server
            return None, server
        finally:
            self._observer.wait(self._settings.name, key, time.monotonic() - began)

    def _decoded(self, key: EntryKey, verdict: object) -> Served | None:
        if verdict is ABSENT:
            return Served(ABSENT)
        if isinstance(verdict, bytes):
            try:
                return Served(key.form.decode(verdict))
            except UNDECODABLE:
                self._observer.miss(self._settings.name, key, "undecodable")
        return None

    def _load_unpublished(
        self, key: EntryKey, load: Callable[[], Loaded], flight: Flight
    ) -> Landed:
        flight.leased = False
        loaded, seconds = self._load(load, flight)
        self._observer.fill(self._settings.name, key, seconds, 0, False)
        return Landed(loaded.value, shared=loaded.publish)

    def _load_and_publish(
        self, key: EntryKey, load: Callable[[], Loaded], lease: Granted, flight: Flight
    ) -> Landed:
        try:
            loaded, seconds = self._load(load, flight)
            payload = self._encoded(key, loaded)
            published = self._publish_or_release(key, lease, loaded, payload)
        except (Exception, asyncio.CancelledError):
            # Nobody shall wait for a lease whose holder has failed.
            self._slots.shielded(lambda: self.release(key, lease))
            raise
        self.count_outlived(published, seconds)
        self._observer.fill(self._settings.name, key, seconds, len(payload or b""), published)
        return Landed(loaded.value, payload, shared=loaded.publish)

    def _publish_or_release(
        self, key: EntryKey, lease: Granted, loaded: Loaded, payload: bytes | None
    ) -> bool:
        ttl_ms = self._ttl_ms(key, loaded)
        if payload is None or ttl_ms <= 0:
            self.release(key, lease)
            return False
        return self.publish(key, lease, payload, loaded.value is ABSENT, ttl_ms)

    def _load(self, load: Callable[[], Loaded], flight: Flight) -> tuple[Loaded, float]:
        began = time.monotonic()
        # In this order: a caller that asks between the two must not join.
        flight.moment = self._flights.tick()
        flight.loading = True
        loaded = load()
        return loaded, time.monotonic() - began

    def _encoded(self, key: EntryKey, loaded: Loaded) -> bytes | None:
        if not loaded.publish:
            return None
        if loaded.value is ABSENT:
            return b""
        try:
            return key.form.encode(loaded.value)
        except NotCacheable as error:
            self._observer.error("encode", error)
            return None

    def filled(self, key: EntryKey, lease: Granted, loaded: Loaded) -> Filled | None:
        """What to publish under this lease, one among many; None if it is not to be kept."""
        payload, ttl_ms = self._encoded(key, loaded), self._ttl_ms(key, loaded)
        if payload is None or ttl_ms <= 0:
            return None
        return Filled(key, lease.token, self._slot(key, lease, payload, loaded.value), ttl_ms)

    def _ttl_ms(self, key: EntryKey, loaded: Loaded) -> int:
        if loaded.ttl_ms is not None:
            return loaded.ttl_ms
        return self.ttl_ms(key, absent=loaded.value is ABSENT)

    def ttl_ms(self, key: EntryKey, *, absent: bool = False) -> int:
        """The entry's time to live; shortened a little, so that not all end together."""
        settings = self._settings
        full = settings.negative_ttl_ms if absent else key.ttl_ms or settings.ttl_ms
        return int(full * (1 - settings.jitter * random.random()))

    def publish(
        self, key: EntryKey, lease: Granted, payload: bytes, absent: bool, ttl_ms: int
    ) -> bool:
        """True if the value stands in place of the lease now. Never raises."""
        slot = self._slot(key, lease, payload, ABSENT if absent else None)
        try:
            return self._slots.publish(self._settings.db, key, lease.token, slot, ttl_ms)
        except CacheUnavailable as error:
            self._observer.error("publish", error)
            return False

    def _slot(self, key: EntryKey, lease: Granted, payload: bytes, value: Any) -> bytes:
        # The server is the one that granted: a lease that was replicated to another one must
        # not make an entry that is servable there.
        absent = value is ABSENT
        return value_slot(
            key.form, lease.server, lease.stamps, payload, absent=absent, created_ms=now_ms()
        )

    def release(self, key: EntryKey, lease: Granted) -> None:
        """Gives the lease up, so that nobody waits for it. Never raises."""
        try:
            self._slots.release(self._settings.db, key, lease.token)
        except CacheUnavailable as error:
            self._observer.error("release", error)

    def count_outlived(self, published: bool, seconds: float) -> None:
        """Count a load that was not published because its lease had ended."""
        # A query slower than its region's lease is never cached: somebody should see that.
        if not published and seconds * 1000 >= self._settings.lease_ms:
            self.outlived += 1
            self._observer.bypass(self._settings.name, "outlived")


def now_ms() -> int:
    """The publisher's clock."""
    return time.time_ns() // 1_000_000


def _payload(slot: bytes, key: EntryKey, server: bytes) -> object:
    """The payload of a slot whose stamps ACQUIRE has compared already."""
    starts = range(HEADER_BYTES, HEADER_BYTES + STAMP_BYTES * len(key.stamps), STAMP_BYTES)
    carried = [slot[at : at + STAMP_BYTES] for at in starts]
    return judge(slot, prefix(key.form, server), carried)
