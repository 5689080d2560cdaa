"""What dogpile.cache users store, and the backend that stores it: leases in place of locks.

Their entries carry one stamp, a pseudo-table's, so that clearing a region is one deletion.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, NoValueType
from dogpile.cache.region import value_version

from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain
from cachedorm.store.entries import Entries
from cachedorm.store.entry import ABSENT, Form
from cachedorm.store.keys import EntryKey, stamp_key
from cachedorm.store.mutex import LeaseMutex, Mutexes
from cachedorm.store.provenance import refuse

Stored: TypeAlias = CachedValue | bytes

PLAIN_STAMP: Final = stamp_key("~plain")

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
        for key, seen in zip(wanted, looks, strict=True):
            if seen.value is NO_VALUE:
                # What the caller uses instead, nobody sees.
                refuse("plain miss", f"{key} was looked for in a plain region")
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entries!r})"


def _stored(key: EntryKey, value: Any) -> Stored | NoValueType:
    if value is NO_VALUE or (value is ABSENT and key.form is PLAIN):
        return NO_VALUE
    if isinstance(value, CachedValue | bytes) and key.form is PLAIN:
        return value
    # Its age is the protocol's business, so dogpile must not find it too old.
    return CachedValue(value, {"ct": time.time(), "v": value_version})
