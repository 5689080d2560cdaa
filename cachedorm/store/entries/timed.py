"""Entries whose reads are timed. Used only if the observer listens to reads."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

from dogpile.cache.api import NO_VALUE

from cachedorm.observe import Observer, listens
from cachedorm.store.entries.entries import Entries, EntryLookup, InvalidationQueue
from cachedorm.store.entries.single_flight import ReadSnapshot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.lifetime import Outage, is_os_error
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Slots

GET: Final = "get"
GET_MANY: Final = "get_many"


def entries_for(
    settings: RegionSettings,
    slots: Slots,
    observer: Observer,
    keeper: InvalidationQueue | None = None,
    outage: Outage = is_os_error,
) -> Entries:
    """Return the entries of a region, timed if the observer listens to reads."""
    made = TimedEntries if listens(observer, "read") else Entries
    return made(settings, slots, observer, keeper, outage)


class TimedEntries(Entries):
    """Entries that time their reads: Redis, checks and decoding, but not the fill."""

    def find(self, key: EntryKey) -> Any:
        began = perf_counter()
        found = super().find(key)
        seconds = perf_counter() - began
        if type(found) is ReadSnapshot:
            self.observer.read(self._name, GET, seconds, 0, int(found.available))
        else:
            self.observer.read(self._name, GET, seconds, 1, 0)
        return found

    def look(self, keys: Sequence[EntryKey]) -> list[EntryLookup]:
        began = perf_counter()
        looks = super().look(keys)
        seconds = perf_counter() - began
        hits = sum(seen.value is not NO_VALUE for seen in looks)
        misses = sum(seen.value is NO_VALUE and seen.asked.available for seen in looks)
        operation = GET if len(keys) == 1 else GET_MANY
        self.observer.read(self._name, operation, seconds, hits, misses)
        return looks
