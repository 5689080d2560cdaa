"""The dogpile.cache backend over a region's entries, with leases in place of locks.

Plain entries carry one stamp, so that clearing a region is one deletion.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, NoValueType
from dogpile.cache.region import value_version

from cachedorm.store.dogpile.mutex import LeaseMutex, Mutexes
from cachedorm.store.entries.entries import Entries
from cachedorm.store.entries.plain_values import PLAIN, PlainEntry, plain_key
from cachedorm.store.entries.provenance import refuse
from cachedorm.store.protocol.entry import ABSENT
from cachedorm.store.protocol.keys import EntryKey


class SlotsBackend(CacheBackend):
    """The dogpile backend of a region's entries."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._mutexes = Mutexes(entries)

    def get(self, key: str) -> PlainEntry | NoValueType:
        return self.get_multi((key,))[0]

    def get_multi(self, keys: Iterable[str]) -> Sequence[PlainEntry | NoValueType]:
        wanted = [plain_key(key) for key in keys]
        looks = self.entries.look(wanted)
        # A caller that rejects these values asks for the mutex next.
        self._mutexes.remember(wanted, [seen.asked for seen in looks])
        for key, seen in zip(wanted, looks, strict=True):
            if seen.value is NO_VALUE:
                # The recorder does not see what the caller uses instead.
                refuse("plain miss", f"{key} was looked for in a plain region")
        return [_stored(key, seen.value) for key, seen in zip(wanted, looks, strict=True)]

    def set(self, key: str, value: Any) -> None:
        """Publish the value if the caller holds the lease; store it if it has no turn."""
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


def _stored(key: EntryKey, value: Any) -> PlainEntry | NoValueType:
    if value is NO_VALUE or (value is ABSENT and key.form is PLAIN):
        return NO_VALUE
    if isinstance(value, CachedValue | bytes) and key.form is PLAIN:
        return value
    # The protocol checks its age, so dogpile must not find it too old.
    return CachedValue(value, {"ct": time.time(), "v": value_version})
