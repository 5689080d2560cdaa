"""Values composed of other entries, such as responses: valid while every one of those is.

The rule: a composed value is served only if every cached read that went into it would be a hit
now, in this process, with the very same bytes. So it is never older than those reads would be,
whatever makes them miss:

* A commit or a manual invalidation: the source's slot is an intent, missing, or different. The
  slots are compared and not the stamps alone, because a row's own entry carries no stamp of its
  own: writers find it by its key. The digest pins the stamps as they were before the rows were
  read; they are compared with those in Redis as for any hit.
* A refill or a write-through: the bytes differ, for the header holds the time and the stamps.
  Equal bytes are an equal value, from whichever process.
* A negative entry is an entry: the insert removes it. A late or refused fill is in no slot, so it
  cannot be a source, and the value composed of it is not stored.
* Eviction or expiry: the source is missing.
* Failover or restart: the slots name another server than the one that replies.
* Other code or another database: the source's form has a fingerprint that this process does not
  read. A process trusts the forms that it has read itself while it composed values, so the first
  value of each form is composed once more in a new process.

A value composed of sources that were never valid together, or stored while a writer's intent is in
place, is never served: one of its sources does not match. So storing it needs no check. The value
itself is an entry with the stamp of plain entries, leased before it is composed: clearing its
region invalidates it even while it is being composed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from cachedorm.errors import CacheUnavailable, NotCacheable
from cachedorm.observe import listens
from cachedorm.responses.provenance import SourceEntry, digest_of
from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain
from cachedorm.store.entries.entries import NO_VALUE, Entries
from cachedorm.store.entries.fill import Served
from cachedorm.store.entries.plain_values import PLAIN_STAMPS
from cachedorm.store.entries.single_flight import Flight, ReadSnapshot
from cachedorm.store.entries.timed import GET
from cachedorm.store.protocol.entry import (
    FINGERPRINT_BYTES,
    Format,
    Miss,
    created_ms_of,
    judge,
    prefix,
)
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime.concurrency import shielded

# Values with sources in their own database, whose names are remembered to read both at once.
BESIDE_MAX: Final = 10_000
FORMS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class ComposedValue:
    """A plain value and the entries that it was composed of."""

    content: Any
    sources: tuple[SourceEntry, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The value found and when it was published (ms), or the reason for a miss."""

    composed: ComposedValue | None
    created_ms: int
    asked: ReadSnapshot
    reason: str = ""


def composed_form(fingerprint: bytes) -> Format:
    """The form of composed values whose content has this fingerprint."""
    return Format(fingerprint, _encode, _decode)


def composed_key(text: str, form: Format, ttl_ms: int) -> EntryKey:
    """The key of a composed value."""
    return EntryKey(text, PLAIN_STAMPS, form, ttl_ms)


class ComposedValues:
    """The composed values of one region. Blocks like any read; never raises CacheUnavailable."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._timed = listens(entries.observer, "read")
        self._db = entries.settings.db
        self._name = entries.settings.name
        self._beside: dict[str, tuple[str, ...]] = {}
        self._forms: set[bytes] = set()

    def trust_forms(self, sources: Iterable[SourceEntry]) -> None:
        """Trust the forms of these entries: this process has read them itself."""
        if len(self._forms) >= FORMS_MAX:
            self._forms.clear()  # each form then costs one composition
        self._forms.update(source.fingerprint for source in sources)

    def get(self, key: EntryKey) -> Lookup:
        """Look the value up. Sends one MGET to each Redis database that holds a source."""
        if not self._timed:
            return self._get(key)
        began = perf_counter()
        lookup = self._get(key)
        seconds, hit = perf_counter() - began, lookup.composed is not None
        missed = not hit and lookup.asked.available
        self.entries.observer.read(self._name, GET, seconds, int(hit), int(missed))
        return lookup

    def _get(self, key: EntryKey) -> Lookup:
        try:
            lookup = self._lookup(key)
            if lookup.reason == Miss.FOREIGN.value and self.entries.moved(lookup.asked.server):
                lookup = self._lookup(key)
        except CacheUnavailable as error:
            return self._unavailable(error)
        observer = self.entries.observer
        if lookup.composed is None:
            observer.miss(self._name, key, lookup.reason)
        else:
            observer.hit(self._name, key)
        return lookup

    def _unavailable(self, error: CacheUnavailable) -> Lookup:
        self.entries.observer.error("read", error)
        self.entries.observer.bypass(self._name, "unavailable")
        return Lookup(None, 0, ReadSnapshot(0, available=False), "unavailable")

    def _lookup(self, key: EntryKey) -> Lookup:
        beside = self._beside.get(key, ())
        names = (key, *key.stamps, *beside)
        values, server = self.entries.slots.read(self._db, names)
        stamps = values[1 : 1 + len(key.stamps)]
        look = self.entries.judged(key, ReadSnapshot(0, values[0], server, stamps))
        if look.value is NO_VALUE:
            return Lookup(None, 0, look.asked, look.reason)
        found = dict(zip(names, values, strict=True)) if beside else {}
        return self._checked(key, look.value, look.asked, found)

    def _checked(
        self, key: EntryKey, composed: Any, asked: ReadSnapshot, found: Mapping[str, bytes | None]
    ) -> Lookup:
        if not isinstance(composed, ComposedValue):
            return Lookup(None, 0, asked, Miss.GARBAGE.value)
        why_not = self._why_not(key, composed.sources, asked.server, found)
        if why_not is not None:
            return Lookup(None, 0, asked, why_not)
        return Lookup(composed, created_ms_of(asked.slot or b"") or 0, asked)

    def _why_not(
        self,
        key: str,
        sources: tuple[SourceEntry, ...],
        server: bytes,
        found: Mapping[str, bytes | None],
    ) -> str | None:
        """The reason for a miss, or None. A value without sources is never served."""
        if not sources or any(source.fingerprint not in self._forms for source in sources):
            return "form"
        by_db: dict[int, list[SourceEntry]] = {}
        for source in sources:
            by_db.setdefault(source.db, []).append(source)
        for db, mine in by_db.items():
            names = tuple(
                dict.fromkeys(name for source in mine for name in (source.key, *source.stamps))
            )
            if db != self._db or any(name not in found for name in names):
                values, seen_by = self.entries.slots.read(db, names)
                current: Mapping[str, bytes | None] = dict(zip(names, values, strict=True))
                if db == self._db:
                    self._remember(key, names)
            else:
                current, seen_by = found, server
            if not all(still_valid(source, current, seen_by) for source in mine):
                return "part"
        return None

    def _remember(self, key: str, names: tuple[str, ...]) -> None:
        if len(self._beside) >= BESIDE_MAX:
            self._beside.clear()  # each key then costs one more command
        self._beside[str(key)] = names

    def lease(self, key: EntryKey, asked: ReadSnapshot) -> Granted | Lookup | None:
        """The lease to publish a value composed from now on, or a value published meanwhile.

        Waits for another process's lease as a fill does. None: compose it but do not publish.
        """
        got = self.entries.filler.obtain(key, asked, Flight((None, key)))
        if isinstance(got, Granted):
            return got
        if not isinstance(got, Served):
            return None
        try:
            seen = ReadSnapshot(0, got.slot, asked.server)
            lookup = self._checked(key, got.value, seen, {})
        except CacheUnavailable as error:
            self.entries.observer.error("read", error)
            return None
        return lookup if lookup.composed is not None else None

    def publish(
        self, key: EntryKey, lease: Granted, composed: ComposedValue, ttl_ms: int, seconds: float
    ) -> bool:
        """Replace the lease by the value; True if it was. ``seconds``: how long composing took."""
        self.trust_forms(composed.sources)
        filling, observer = self.entries.filler, self.entries.observer
        try:
            payload = key.form.encode(composed)
        except NotCacheable as error:
            observer.error("encode", error)
            self.release(key, lease)
            return False
        published = filling.publish(key, lease, payload, False, ttl_ms, own=True) is not None
        filling.count_outlived(published, seconds)
        observer.fill(self._name, key, seconds, len(payload), published)
        return published

    def release(self, key: EntryKey, lease: Granted) -> None:
        """Give the lease up, even if the task is cancelled meanwhile."""
        shielded(lambda: self.entries.filler.release(key, lease))

    def __repr__(self) -> str:
        return f"ComposedValues({self._name!r}, db={self._db}, {len(self._forms)} forms)"


def still_valid(source: SourceEntry, current: Mapping[str, bytes | None], server: bytes) -> bool:
    """Whether a read of this entry would be a hit now, with the bytes it had then."""
    slot = current.get(source.key)
    if slot is None or digest_of(slot) != source.digest:
        return False
    stamps = [current.get(stamp) for stamp in source.stamps]
    return not isinstance(judge(slot, prefix(source.fingerprint, server), stamps), Miss)


def _encode(composed: ComposedValue) -> bytes:
    sources = [
        [source.db, source.key, list(source.stamps), source.fingerprint, source.digest]
        for source in composed.sources
    ]
    return encode_plain([sources, composed.content])


def _decode(payload: bytes) -> ComposedValue:
    try:
        sources, content = decode_plain(payload)
        return ComposedValue(content, tuple(map(_source, sources)))
    except (TypeError, ValueError) as error:
        raise UndecodableError(f"not a composed value: {error}") from error


def _source(found: Any) -> SourceEntry:
    db, key, stamps, fingerprint, digest = found
    texts = isinstance(key, str) and all(isinstance(stamp, str) for stamp in stamps)
    if not (texts and isinstance(db, int) and len(fingerprint) == FINGERPRINT_BYTES):
        raise ValueError("not a source entry")
    return SourceEntry(db, key, tuple(stamps), fingerprint, digest)
