"""Filling one entry: a lease, a read of the database, and publishing while the lease stands."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from cachedorm.errors import CacheUnavailable, NotCacheable
from cachedorm.observe import Observer
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entries.provenance import absorbed
from cachedorm.store.entries.single_flight import FillResult, Flight, Flights, ReadSnapshot
from cachedorm.store.protocol.entry import (
    ABSENT,
    HEADER_BYTES,
    STAMP_BYTES,
    judge,
    kept_slot,
    new_token,
    prefix,
    value_slot,
)
from cachedorm.store.protocol.keys import EntryKey, refresh_key
from cachedorm.store.protocol.lifetime import Outage, is_os_error, life_of, may_be_kept
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Acquired, Filled, Granted, Held, Refused, Slots, Valid
from cachedorm.store.runtime.clock import now_ms
from cachedorm.store.runtime.concurrency import shielded, sleep


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load: a value, or ABSENT for "no such row".

    ``ttl_ms`` is the row's own time to live (not jittered; not published if it is over).
    If not ``publish``, the result is for its reader alone.
    """

    value: Any
    ttl_ms: int | None = None
    publish: bool = True


class Unleased(Enum):
    """Why there is no lease: load, and publish nothing."""

    INTENT = "intent"
    INTEREST = "interest"
    HELD = "lease"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Served:
    """The value that another caller published while this one asked for the lease."""

    value: Any
    slot: bytes


FIRST_PAUSE: Final = 0.002
LAST_PAUSE: Final = 0.025


class Filler:
    """The misses of one region: how its entries are leased, loaded and published."""

    def __init__(
        self,
        settings: RegionSettings,
        slots: Slots,
        observer: Observer,
        outage: Outage = is_os_error,
    ) -> None:
        self._settings = settings
        self.is_outage = outage
        self._slots = slots
        self._observer = observer
        self.flights = Flights()
        self.outlived = 0

    def fill(
        self, key: EntryKey, load: Callable[[], Loaded], asked: ReadSnapshot, bounded: bool
    ) -> FillResult:
        """Return the value of a missed entry, loaded once for all callers in this process."""
        if asked.lease is not None:
            # This caller has the lease to refresh the old value, so it does not wait.
            return self._load_and_publish(key, load, asked.lease, Flight((None, key)))
        patience = self._settings.wait_ms / 1000 if bounded else None
        lead = partial(self._run, key, load, asked)
        landed, waited = self.flights.share(key, key.form, asked, lead, patience)
        if waited:
            self._observer.wait(self._settings.name, key, waited)
        return landed

    def _run(
        self, key: EntryKey, load: Callable[[], Loaded], asked: ReadSnapshot, flight: Flight | None
    ) -> FillResult:
        """Load under a lease and publish; load alone if there is no lease."""
        if flight is None:
            return self._load_unpublished(key, load, Flight((None, key)))
        match self.obtain(key, asked, flight):
            case Served(value, slot):
                return FillResult(value, slot=slot)
            case Granted() as lease:
                flight.lease, flight.leased = lease, True
                return self._load_and_publish(key, load, lease, flight)
            case _:
                return self._load_unpublished(key, load, flight)

    def obtain(
        self, key: EntryKey, asked: ReadSnapshot, flight: Flight, *, wait: bool = True
    ) -> Granted | Served | Unleased:
        """Return the lease, or a value published meanwhile, or why there is neither.

        Waits for another process's lease, at most ``wait_ms`` in all.
        """
        if not asked.available:
            # The read before has waited for Redis already.
            return Unleased.UNAVAILABLE
        deadline = time.monotonic() + (self._settings.wait_ms / 1000 if wait else 0.0)
        try:
            over = self._obtain_over(key, asked, flight, deadline) if asked.expired else None
            got = over or self._obtain(key, asked, flight, deadline)
        except CacheUnavailable as error:
            self._observer.error("acquire", error)
            return Unleased.UNAVAILABLE
        if isinstance(got, Unleased):
            self._observer.bypass(self._settings.name, got.value)
        return got

    def _obtain(
        self, key: EntryKey, asked: ReadSnapshot, flight: Flight, deadline: float
    ) -> Granted | Served | Unleased:
        # A value that our read saw and could not use would be "valid" to ACQUIRE for ever.
        unusable = asked.slot if asked.slot and asked.slot[:1] == b"V" else None
        server = asked.server
        while True:
            flight.moment = self.flights.tick()
            got = self.acquire(key, server, unusable)
            match got:
                case Granted():
                    return got
                case Valid(slot, server):
                    served = self.valid(key, slot, server)
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

    def _obtain_over(
        self, key: EntryKey, asked: ReadSnapshot, flight: Flight, deadline: float
    ) -> Granted | Served | Unleased | None:
        """As ``_obtain``, but keep the expired value until it is replaced: it may be needed.

        Returns None if the entry holds something else already.
        """
        while True:
            flight.moment = self.flights.tick()
            match self.refresh(key, asked):
                case Granted() as lease:
                    return lease
                case Held():
                    served, _ = self._await_holder(key, flight, deadline, asked.slot)
                    if served is not None:
                        return served
                case _:
                    return None
            if time.monotonic() >= deadline:
                return Unleased.HELD

    def refresh(self, key: EntryKey, asked: ReadSnapshot) -> Acquired:
        """Send one REFRESH with a new token, for the value that the caller's read saw."""
        assert asked.slot is not None
        settings, token = self._settings, new_token()
        got = self._slots.refresh(settings.db, key, token, settings.lease_ms, seen=asked.slot)
        if not isinstance(got, Granted):
            return got
        # The new value carries the stamps and the server that the old one was valid with: they
        # were read before the lease, and so before the database.
        stamps = tuple(stamp or b"" for stamp in asked.stamps)
        return Granted(token, stamps, asked.server, asked.slot)

    def acquire(self, key: EntryKey, server: bytes, unusable: bytes | None) -> Acquired:
        """Send one ACQUIRE with a new token."""
        settings = self._settings
        longest = max(settings.ttl_ms, settings.negative_ttl_ms, key.ttl_ms or 0)
        return self._slots.acquire(
            settings.db,
            key,
            new_token(),
            settings.lease_ms,
            longest + settings.stale_if_error_ms + settings.lease_ms,
            server=server or self._slots.identity_again(settings.db),
            replace=unusable,
        )

    def _await_holder(
        self, key: EntryKey, flight: Flight, deadline: float, standing: bytes | None = None
    ) -> tuple[Served | None, bytes]:
        """Wait for the value of the lease's holder.

        None once the lease (or ``standing``, which it replaces) is gone, or the time is up.
        """
        pause, began, server = FIRST_PAUSE, time.monotonic(), b""
        try:
            while (left := deadline - time.monotonic()) > 0:
                sleep(min(pause, left))
                pause = min(pause * 1.5, LAST_PAUSE)
                flight.moment = self.flights.tick()
                values, server = self._slots.read(self._settings.db, (key, *key.stamps))
                verdict = judge(values[0], prefix(key.form, server), values[1:])
                found = values[0] or b""
                served = self._decoded(key, verdict, found)
                if served is not None or (found != standing if standing else found[:1] != b"L"):
                    return served, server
            return None, server
        finally:
            self._observer.wait(self._settings.name, key, time.monotonic() - began)

    def valid(self, key: EntryKey, slot: bytes, server: bytes) -> Served | None:
        """Return the value of a slot whose stamps ACQUIRE has compared already."""
        starts = range(HEADER_BYTES, HEADER_BYTES + STAMP_BYTES * len(key.stamps), STAMP_BYTES)
        carried = [slot[at : at + STAMP_BYTES] for at in starts]
        return self._decoded(key, judge(slot, prefix(key.form, server), carried), slot)

    def _decoded(self, key: EntryKey, verdict: object, slot: bytes) -> Served | None:
        if verdict is ABSENT:
            return Served(ABSENT, slot)
        if isinstance(verdict, bytes):
            try:
                return Served(key.form.decode(verdict), slot)
            except UNDECODABLE:
                self._observer.miss(self._settings.name, key, "undecodable")
        return None

    def _load_unpublished(
        self, key: EntryKey, load: Callable[[], Loaded], flight: Flight
    ) -> FillResult:
        flight.leased = False
        loaded, seconds = self._load(key, load, flight)
        self._observer.fill(self._settings.name, key, seconds, 0, False)
        return FillResult(loaded.value, shared=loaded.publish)

    def _load_and_publish(
        self, key: EntryKey, load: Callable[[], Loaded], lease: Granted, flight: Flight
    ) -> FillResult:
        try:
            loaded, seconds = self._load(key, load, flight)
            payload = self._encoded(key, loaded)
            slot = self._publish_or_release(key, lease, loaded, payload)
        except (Exception, asyncio.CancelledError) as error:
            # No caller shall wait for a lease whose holder has failed.
            failure = error
            shielded(lambda: self._give_up(key, lease, failure))
            raise
        published = slot is not None
        if not published:
            self.count_outlived(published, seconds)
        self._observer.fill(self._settings.name, key, seconds, len(payload or b""), published)
        return FillResult(loaded.value, payload, shared=loaded.publish, slot=slot)

    def _publish_or_release(
        self, key: EntryKey, lease: Granted, loaded: Loaded, payload: bytes | None
    ) -> bytes | None:
        made = self._made(key, lease, loaded, payload)
        if made is None:
            self.release(key, lease)
            return None
        return self._put(key, lease, *made)

    def _load(
        self, key: EntryKey, load: Callable[[], Loaded], flight: Flight
    ) -> tuple[Loaded, float]:
        began = time.monotonic()
        # In this order: a caller that reads between the two must not join.
        flight.moment = self.flights.tick()
        flight.loading = True
        with absorbed(), self._observer.loading(self._settings.name, key):
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
        """Return what to publish under this lease, or None if it is not to be kept."""
        made = self._made(key, lease, loaded, self._encoded(key, loaded))
        return None if made is None else Filled(key, lease.token, *made)

    def _made(
        self, key: EntryKey, lease: Granted, loaded: Loaded, payload: bytes | None
    ) -> tuple[bytes, int] | None:
        """Return what to store and how long its key lives, or None if it is not to be kept."""
        ttl_ms = self._ttl_ms(key, loaded)
        if payload is None or ttl_ms <= 0:
            return None
        absent = loaded.value is ABSENT
        # Where the row itself says when it ends, nothing may stretch its time.
        own = not absent and loaded.ttl_ms not in (None, key.ttl_ms)
        return self._slot(key, lease, payload, absent, ttl_ms, own=own)

    def _ttl_ms(self, key: EntryKey, loaded: Loaded) -> int:
        if loaded.ttl_ms is not None:
            return loaded.ttl_ms
        return self.ttl_ms(key, absent=loaded.value is ABSENT)

    def ttl_ms(self, key: EntryKey, *, absent: bool = False) -> int:
        """Return the entry's time to live, shortened a little so that not all expire together."""
        settings = self._settings
        full = settings.negative_ttl_ms if absent else key.ttl_ms or settings.ttl_ms
        return int(full * (1 - settings.jitter * random.random()))

    def publish(
        self,
        key: EntryKey,
        lease: Granted,
        payload: bytes,
        absent: bool,
        ttl_ms: int,
        *,
        own: bool = False,
    ) -> bytes | None:
        """Replace the lease (or the old value): return the new slot, or None if the lease was gone.

        Never raises. ``own``: the time to live is the row's own and must not be extended.
        """
        return self._put(key, lease, *self._slot(key, lease, payload, absent, ttl_ms, own=own))

    def _put(self, key: EntryKey, lease: Granted, slot: bytes, key_ms: int) -> bytes | None:
        db = self._settings.db
        try:
            if lease.over is None:
                published = self._slots.publish(db, key, lease.token, slot, key_ms)
            else:
                published = self._slots.replace(db, key, lease.token, slot, key_ms, seen=lease.over)
        except CacheUnavailable as error:
            self._observer.error("publish", error)
            return None
        return slot if published else None

    def _slot(
        self,
        key: EntryKey,
        lease: Granted,
        payload: bytes,
        absent: bool,
        ttl_ms: int,
        *,
        own: bool,
    ) -> tuple[bytes, int]:
        """Return what to store, and how long its key lives."""
        now = now_ms()
        life = life_of(self._settings, now, ttl_ms, own=own, chance=random.random())
        # The server that granted the lease: if the lease was replicated to another server, the
        # entry must not be servable there.
        slot = value_slot(
            key.form,
            lease.server,
            lease.stamps,
            payload,
            absent=absent,
            created_ms=now,
            soft_ms=life.soft_ms,
            outlives=life.outlives,
        )
        return slot, life.key_ms

    def _give_up(self, key: EntryKey, lease: Granted, error: BaseException) -> None:
        stale_ms = self._settings.stale_if_error_ms
        if (
            lease.over is not None
            and may_be_kept(lease.over, now_ms(), stale_ms)
            and self.is_outage(error)
        ):
            self._keep(key, lease, lease.over)
        else:
            self.release(key, lease)

    def _keep(self, key: EntryKey, lease: Granted, seen: bytes) -> None:
        """Serve the old value for one lease time; then one reader tries the database."""
        settings = self._settings
        db, lease_ms = settings.db, settings.lease_ms
        slot = kept_slot(seen, now_ms() + lease_ms)
        try:
            if self._slots.replace(db, key, lease.token, slot, None, seen=seen):
                return
            # A hanging connection outlives the lease. Take it again if no other caller has it.
            token = new_token()
            if isinstance(self._slots.refresh(db, key, token, lease_ms, seen=seen), Granted):
                self._slots.replace(db, key, token, slot, None, seen=seen)
        except CacheUnavailable as error:
            self._observer.error("publish", error)

    def release(self, key: EntryKey, lease: Granted) -> None:
        """Give the lease up, so that no caller waits for it. Never raises."""
        place = key if lease.over is None else refresh_key(key)
        try:
            self._slots.release(self._settings.db, place, lease.token)
        except CacheUnavailable as error:
            self._observer.error("release", error)

    def count_outlived(self, published: bool, seconds: float) -> None:
        """Count a load that was not published because its lease had ended."""
        # A query slower than its region's lease is never cached, so it is reported.
        if not published and seconds * 1000 >= self._settings.lease_ms:
            self.outlived += 1
            self._observer.bypass(self._settings.name, "outlived")
