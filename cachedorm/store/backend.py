"""dogpile.cache backends over slots: leases in place of locks, a late fill refused.

For a plain ``dogpile.cache`` user::

    region = make_region().configure("cachedorm.redis", arguments={"url": "redis://localhost/1"})

Entries that such a user stores carry one stamp, so that clearing a region is one deletion.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from dogpile.cache import register_backend
from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, NoValueType
from dogpile.cache.region import value_version

from cachedorm.errors import ArgumentError
from cachedorm.observe import LogObserver, Observer
from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain
from cachedorm.store.entries import Entries
from cachedorm.store.entry import ABSENT, Form
from cachedorm.store.fill import RegionSettings
from cachedorm.store.keys import EntryKey, stamp_key
from cachedorm.store.memory import MAX_ENTRIES, MemorySlots
from cachedorm.store.mutex import LeaseMutex, Mutexes
from cachedorm.store.redis_slots import RedisSlots
from cachedorm.store.slots import Slots
from cachedorm.store.wire import Wire

Stored: TypeAlias = CachedValue | bytes

PLAIN_STAMP: Final = stamp_key("~plain")
DAY_SECONDS: Final = 24 * 3600

_CREATED: Final = struct.Struct(">d")
_VALUE: Final = b"\0"
_SERIALIZED: Final = b"\1"


def _encode(stored: Stored) -> bytes:
    if isinstance(stored, bytes):
        # The region has a serializer of its own; dogpile's metadata is inside already.
        return _SERIALIZED + stored
    return _VALUE + _CREATED.pack(stored.metadata["ct"]) + encode_plain(stored.payload)


def _decode(payload: bytes) -> Stored:
    if payload[:1] == _SERIALIZED:
        return payload[1:]
    if payload[:1] != _VALUE or len(payload) < 1 + _CREATED.size:
        raise UndecodableError("not a plain entry")
    # dogpile compares the exact second: the header's milliseconds would do for people only.
    (created,) = _CREATED.unpack_from(payload, 1)
    return CachedValue(
        decode_plain(payload[1 + _CREATED.size :]), {"ct": created, "v": value_version}
    )


PLAIN: Final = Form(b"~plain\0\1", _encode, _decode)
PLAIN_STAMPS: Final = (PLAIN_STAMP,)


def plain_key(key: str) -> EntryKey:
    """The key as an entry's: with dogpile's form, and the one stamp of plain entries."""
    return key if isinstance(key, EntryKey) else EntryKey(key, PLAIN_STAMPS, PLAIN)


class SlotsBackend(CacheBackend):
    """What dogpile needs of a region's entries."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._mutexes = Mutexes(entries)

    def get(self, key: str) -> Stored | NoValueType:
        return self.get_multi((key,))[0]

    def get_multi(self, keys: Iterable[str]) -> Sequence[Stored | NoValueType]:
        wanted = [plain_key(key) for key in keys]
        looks = self.entries.look(wanted)
        # A caller that is not content with these will ask for the mutex next.
        self._mutexes.remember(wanted, [seen.asked for seen in looks])
        return [_stored(key, seen.value) for key, seen in zip(wanted, looks, strict=True)]

    def set(self, key: str, value: Any) -> None:
        """Under the mutex: published iff the lease still stands. Without: stored."""
        entry = plain_key(key)
        if entry.form is not PLAIN and isinstance(value, CachedValue):
            value = value.payload
        if not self._mutexes.publish(entry, value):
            self.entries.put(entry, value)

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: str) -> None:
        self.entries.delete((key,))

    def delete_multi(self, keys: Iterable[str]) -> None:
        self.entries.delete(keys)

    def get_mutex(self, key: str) -> LeaseMutex:
        return LeaseMutex(self._mutexes, plain_key(key))

    def close(self) -> None:
        self.entries.slots.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entries!r})"


class RedisBackend(SlotsBackend):
    """``cachedorm.redis``. Arguments (times in seconds):

    ``url``: with the database, as in ``redis://localhost:6379/1`` (or ``db``) · ``ttl``: one day ·
    ``lease``: how long one load may take, 3 · ``wait``: for another process's load, 0.2 ·
    ``name``: of the region, for the ``observer`` · ``jitter``: 0.05 ·
    ``connect_timeout`` and ``operation_timeout``: 0.25.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = dict(arguments)
        url = given.pop("url", "redis://localhost:6379/0")
        db = int(given.pop("db", urlsplit(url).path.strip("/") or 0))
        limits = {
            name: float(given.pop(name))
            for name in ("connect_timeout", "operation_timeout")
            if name in given
        }
        slots = RedisSlots(Wire(url, **limits))
        super().__init__(_entries(slots, db, given))


class MemoryBackend(SlotsBackend):
    """``cachedorm.memory``. Arguments: those of ``cachedorm.redis`` that are not about Redis, and
    ``max_entries``, 100 000."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = dict(arguments)
        slots = MemorySlots(int(given.pop("max_entries", MAX_ENTRIES)))
        super().__init__(_entries(slots, 0, given))


def _entries(slots: Slots, db: int, given: dict[str, Any]) -> Entries:
    observer: Observer = given.pop("observer", None) or LogObserver()
    settings = RegionSettings(
        name=given.pop("name", "plain"),
        db=db,
        ttl_ms=_ms(given.pop("ttl", DAY_SECONDS)),
        lease_ms=_ms(given.pop("lease", 3.0)),
        wait_ms=_ms(given.pop("wait", 0.2)),
        jitter=float(given.pop("jitter", 0.05)),
    )
    if given:
        raise ArgumentError(f"unknown backend arguments: {', '.join(sorted(given))}")
    return Entries(settings, slots, observer)


def _ms(seconds: Any) -> int:
    return int(float(seconds) * 1000)


def _stored(key: EntryKey, value: Any) -> Stored | NoValueType:
    if value is NO_VALUE or (value is ABSENT and key.form is PLAIN):
        return NO_VALUE
    if isinstance(value, CachedValue | bytes) and key.form is PLAIN:
        return value
    # Its age is the protocol's business, so dogpile must not find it too old.
    return CachedValue(value, {"ct": time.time(), "v": value_version})


# As the installed package's entry points do; a checkout has none.
register_backend("cachedorm.redis", __name__, "RedisBackend")  # type: ignore[no-untyped-call]
register_backend("cachedorm.memory", __name__, "MemoryBackend")  # type: ignore[no-untyped-call]
