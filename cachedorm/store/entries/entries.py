"""The entries of one region: read, filled, set, deleted, cleared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

from dogpile.cache.api import NO_VALUE

from cachedorm.errors import CacheUnavailable, NotCacheable
from cachedorm.observe import Observer
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entries.fill import Filler, Loaded
from cachedorm.store.entries.provenance import current, refuse
from cachedorm.store.entries.refresh_ahead import RefreshAhead
from cachedorm.store.entries.single_flight import ReadSnapshot
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.entry import (
    ABSENT,
    Format,
    Miss,
    held_value,
    judge,
    new_token,
    prefix,
    value_slot,
)
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.lifetime import Outage, is_due, is_os_error
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Slots
from cachedorm.store.runtime.clock import now_ms

__all__ = ["NO_VALUE", "Entries", "EntryLookup", "InvalidationQueue"]

NO_SERVER: Final = (b"", b"")
UNDECODABLE_REASON: Final = "undecodable"
REFRESH_REASON: Final = "refresh"
UNAVAILABLE_REASON: Final = "unavailable"

# What this caller's last ``get`` missed, for the ``fill`` that follows it: dogpile's API is split
# in two. The library's own reads are one ``fetch``, and do not come here.
_MISSED: Final[ContextVar[tuple[str, ReadSnapshot] | None]] = ContextVar(
    "cachedorm_missed", default=None
)


class EntryLookup(NamedTuple):
    """What one read found for one key. For a miss ``value`` is NO_VALUE and ``reason`` is set."""

    value: Any
    asked: ReadSnapshot
    reason: str = ""


class InvalidationQueue(Protocol):
    """A queue of invalidations that could not be sent, to be delivered later."""

    def invalidate(self, touched: Touched) -> None: ...

    def clear(self, db: int, stamps: Sequence[str]) -> None: ...


class Entries:
    """The operations of a region on its entries. Without Redis reads miss and writes are lost."""

    def __init__(
        self,
        settings: RegionSettings,
        slots: Slots,
        observer: Observer,
        keeper: InvalidationQueue | None = None,
        outage: Outage = is_os_error,
    ) -> None:
        self.settings = settings
        self._keeper = keeper or Unqueued(slots, observer)
        self.slots = slots
        self.observer = observer
        self.filler = Filler(settings, slots, observer, outage)
        self._flights = self.filler.flights
        self._ahead = RefreshAhead(self.filler, observer, settings.lease_ms)
        self._ahead_ms = settings.refresh_ahead_ms
        self._db, self._name = settings.db, settings.name
        self._read = slots.read
        self._hit = observer.hit
        # The bytes that every value of a format begins with, on the server last seen.
        self._prefixes: dict[bytes, tuple[bytes, bytes]] = {}
        self._seen = b""

    def fetch(self, key: EntryKey, load: Callable[[], Loaded], bounded: Callable[[], bool]) -> Any:
        """Return the cached or loaded value, or ABSENT. A hit costs one command.

        ``bounded`` is called on a miss only: whether the caller holds a database connection, which
        the loader that the caller waits for may need.
        """
        found = self.find(key)
        return self._filled(key, load, found, bounded()) if type(found) is ReadSnapshot else found

    def get(self, key: EntryKey) -> Any:
        """Return the value, ABSENT, or NO_VALUE. ``fill`` may follow NO_VALUE."""
        found = self.find(key)
        if type(found) is not ReadSnapshot:
            return found
        _MISSED.set((key, found))
        return NO_VALUE

    def find(self, key: EntryKey) -> Any:
        """Return the value, ABSENT, or for a miss what the read saw. One command.

        In a region that refreshes ahead, one caller misses a value that is due. It reads the
        database while the others get the old value. There is no background load: that caller
        waits for the database.
        """
        tick = self._flights.now
        try:
            values, server = self._read(self._db, (key, *key.stamps))
        except CacheUnavailable as error:
            return self._unavailable(tick, error)
        form = key.form
        known, start = self._prefixes.get(form.fingerprint, NO_SERVER)
        if known != server:
            start = self._prefix(form, server)
        verdict = judge(values[0], start, values[1:])
        value: Any = verdict
        if isinstance(verdict, bytes):
            try:
                value = form.decode(verdict)
            except UNDECODABLE:
                asked = ReadSnapshot(tick, values[0], server, values[1:])
                return self._missed(key, asked, UNDECODABLE_REASON)
        elif verdict is not ABSENT:
            asked = ReadSnapshot(
                tick, values[0], server, values[1:], expired=verdict is Miss.EXPIRED
            )
            if verdict is Miss.FOREIGN:
                return self._foreign(key, asked)
            return self._missed(key, asked, verdict.value)
        if self._ahead_ms:
            refreshing = self._refreshing(key, tick, values, server)
            if refreshing is not None:
                return refreshing
        self._hit(self._name, key)
        provenance = current()
        if provenance is not None:
            provenance.served(self.slots, self._db, key, values[0])
        return value

    def look(self, keys: Sequence[EntryKey]) -> list[EntryLookup]:
        """Look all keys up in one read: return their values, and what a fill of each needs."""
        looks = self.peek(keys)
        name, hit, provenance = self._name, self._hit, current()
        for key, seen in zip(keys, looks, strict=True):
            if seen.value is not NO_VALUE:
                hit(name, key)
                if provenance is not None:
                    provenance.served(self.slots, self._db, key, seen.asked.slot)
            elif seen.asked.available:
                self.observer.miss(name, key, seen.reason)
        return looks

    def peek(self, keys: Sequence[EntryKey], *, again: bool = True) -> list[EntryLookup]:
        """``look`` without reports to the observer and the recorder.

        ``again``: read a second time if a value seems to come from another server.
        """
        tick = self._flights.now
        stamps = list(dict.fromkeys(stamp for key in keys for stamp in key.stamps))
        try:
            values, server = self._read(self._db, (*keys, *stamps))
        except CacheUnavailable as error:
            self.observer.error("read", error)
            gone = EntryLookup(NO_VALUE, ReadSnapshot(tick, available=False), UNAVAILABLE_REASON)
            return [gone for _ in keys]
        current = dict(zip(stamps, values[len(keys) :], strict=True))
        # Rows of one class carry the same stamps.
        found: dict[tuple[str, ...], list[bytes | None]] = {}
        looks = []
        for key, slot in zip(keys, values, strict=False):
            carried = found.get(key.stamps)
            if carried is None:
                carried = found[key.stamps] = [current[stamp] for stamp in key.stamps]
            looks.append(self.judged(key, ReadSnapshot(tick, slot, server, carried)))
        if (
            again
            and any(seen.reason == Miss.FOREIGN.value for seen in looks)
            and self.moved(server)
        ):
            return self.peek(keys, again=False)
        return looks

    def unchanged(self, keys: Sequence[EntryKey], looks: Sequence[EntryLookup]) -> bool:
        """Read the keys again: return whether they still hold what the lookups found."""
        stamps = [stamp for key in keys for stamp in key.stamps]
        try:
            values, server = self._read(self._db, (*keys, *stamps))
        except CacheUnavailable as error:
            self.observer.error("read", error)
            return False
        seen = [look.asked.slot for look in looks]
        seen += [stamp for look in looks for stamp in look.asked.stamps]
        return list(values) == seen and all(look.asked.server == server for look in looks)

    def fill(
        self,
        key: EntryKey,
        load: Callable[[], Loaded],
        *,
        bounded: bool = False,
        asked: ReadSnapshot | None = None,
    ) -> Any:
        """Return the value of an entry that ``get`` missed. It is loaded once for all callers here.

        Waits without limit for another loader of this process. If ``bounded`` (the caller holds a
        database connection that the loader may need), waits at most ``wait_ms``.
        """
        if asked is None:
            missed = _MISSED.get()
            if missed is not None and missed[0] is key:
                _MISSED.set(None)
                asked = missed[1]
            else:
                seen = self.look((key,))[0]
                if seen.value is not NO_VALUE:
                    return seen.value
                asked = seen.asked
        return self._filled(key, load, asked, bounded)

    def _filled(
        self, key: EntryKey, load: Callable[[], Loaded], asked: ReadSnapshot, bounded: bool
    ) -> Any:
        try:
            landed = self.filler.fill(key, load, asked, bounded)
        except Exception as error:
            held = self._still_valid(key, asked, error)
            if held is NO_VALUE:
                raise
            self.observer.error("database", error)
            refuse("database is down", f"{key} is served though it could not be loaded")
            return held
        provenance = current()
        if provenance is not None:
            provenance.served(self.slots, self._db, key, landed.slot)
        return landed.value

    def _still_valid(self, key: EntryKey, asked: ReadSnapshot, error: Exception) -> Any:
        """Return what the cache holds after a failed load, if the error means an outage.

        Reads again, to notice every invalidation since the first read. Only the value's time may
        be over; all else must be valid.
        """
        stale = self.settings.stale_if_error_ms > 0
        if not ((stale or asked.lease is not None) and self.filler.is_outage(error)):
            return NO_VALUE
        seen = self.look((key,))[0]
        slot = seen.asked.slot
        if not (stale and seen.asked.expired) or slot is None:
            return seen.value
        held = held_value(slot, len(key.stamps))
        try:
            return ABSENT if held is ABSENT else key.form.decode(held)
        except UNDECODABLE:
            return NO_VALUE

    def _refreshing(
        self, key: EntryKey, tick: int, values: Sequence[bytes | None], server: bytes
    ) -> ReadSnapshot | None:
        """Return a miss to the one caller that refreshes the value it has read, else None."""
        slot = values[0] or b""
        if not is_due(slot, now_ms(), self._ahead_ms):
            return None
        asked = ReadSnapshot(tick, slot, server, values[1:])
        lease = self._ahead.lease(key, asked)
        if lease is None:
            return None
        return self._missed(key, asked._replace(lease=lease), REFRESH_REASON)

    def put(self, key: EntryKey, value: Any) -> bool:
        """Store a value. Return False if a writer is about to commit or Redis is unavailable."""
        try:
            payload = b"" if value is ABSENT else key.form.encode(value)
            server = self._server()
            head = value_slot(
                key.form, server, (), b"", absent=value is ABSENT, created_ms=now_ms()
            )
            ttl_ms = self.filler.ttl_ms(key, absent=value is ABSENT)
            # The script writes the stamps that it finds or creates between head and payload.
            head = head[:-1] + bytes([len(key.stamps)])
            longest = max(ttl_ms, self.settings.ttl_ms)
            return self.slots.put(self._db, key, head, payload, ttl_ms, longest)
        except (CacheUnavailable, NotCacheable) as error:
            self.observer.error("set", error)
            return False

    def delete(self, keys: Iterable[str]) -> None:
        """Delete entries, and any lease in their place, so that a late fill is refused."""
        touched = Touched()
        touched.add_entries(self._db, map(str, keys))
        if touched:
            self._keeper.invalidate(touched)

    def clear(self, stamps: Iterable[str]) -> None:
        """Invalidate every entry that carries one of the stamps."""
        self._keeper.clear(self._db, list(stamps))

    def _prefix(self, form: Format, server: bytes) -> bytes:
        known, start = self._prefixes.get(form.fingerprint, NO_SERVER)
        if known != server:
            start = prefix(form, server)
            self._seen = server
            self._prefixes[form.fingerprint] = (server, start)
        return start

    def _server(self) -> bytes:
        return self._seen or self.slots.identity_again(self._db)

    def judged(self, key: EntryKey, asked: ReadSnapshot) -> EntryLookup:
        """Judge and decode what a read saw of the key."""
        verdict = judge(asked.slot, self._prefix(key.form, asked.server), asked.stamps)
        if verdict is Miss.EXPIRED:
            return EntryLookup(NO_VALUE, asked._replace(expired=True), verdict.value)
        if isinstance(verdict, Miss):
            return EntryLookup(NO_VALUE, asked, verdict.value)
        if verdict is ABSENT:
            return EntryLookup(ABSENT, asked)
        try:
            return EntryLookup(key.form.decode(verdict), asked)
        except UNDECODABLE:
            return EntryLookup(NO_VALUE, asked, UNDECODABLE_REASON)

    def _foreign(self, key: EntryKey, asked: ReadSnapshot) -> Any:
        """Handle an entry of another server, or of this one after it changed its identity.

        A master that loses its last replica changes its identity while connections live. Old and
        new connections must not refuse each other's entries for ever.
        """
        if not self.moved(asked.server):
            return self._missed(key, asked, Miss.FOREIGN.value)
        # Read again, not judged again: the first reply came from the server of the old connection.
        seen = self.peek((key,), again=False)[0]
        self._count(key, seen)
        return seen.asked if seen.value is NO_VALUE else seen.value

    def moved(self, server: bytes) -> bool:
        """Ask the server for its identity again: return whether it has changed."""
        try:
            return self.slots.identity_again(self._db) != server
        except CacheUnavailable as error:
            self.observer.error("identity", error)
            return False

    def _missed(self, key: EntryKey, asked: ReadSnapshot, reason: str) -> ReadSnapshot:
        self.observer.miss(self._name, key, reason)
        return asked

    def _count(self, key: EntryKey, seen: EntryLookup) -> None:
        if seen.value is NO_VALUE:
            self.observer.miss(self._name, key, seen.reason)
            return
        self._hit(self._name, key)
        provenance = current()
        if provenance is not None:
            provenance.served(self.slots, self._db, key, seen.asked.slot)

    def _unavailable(self, tick: int, error: CacheUnavailable) -> ReadSnapshot:
        self.observer.error("read", error)
        self.observer.bypass(self._name, "unavailable")
        return ReadSnapshot(tick, available=False)

    def __repr__(self) -> str:
        return f"Entries({self._name!r}, db={self._db}, {self._flights!r})"


class Unqueued:
    """Send invalidations at once, without a queue: for slots that no store owns."""

    def __init__(self, slots: Slots, observer: Observer) -> None:
        self._slots = slots
        self._observer = observer

    def invalidate(self, touched: Touched) -> None:
        try:
            self._slots.settle(touched, new_token(), {})
        except CacheUnavailable as error:
            self._observer.error("delete", error)

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        try:
            self._slots.clear(db, stamps)
        except CacheUnavailable as error:
            self._observer.error("clear", error)
