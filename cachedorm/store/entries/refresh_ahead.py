"""Refreshing ahead of expiry: which caller of this process gets to read the database again."""

from __future__ import annotations

import time
from typing import Final

from cachedorm.errors import CacheUnavailable
from cachedorm.observe import Observer
from cachedorm.store.entries.fill import Filler
from cachedorm.store.entries.single_flight import ReadSnapshot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted, Held

BUSY_MAX: Final = 10_000


class RefreshAhead:
    """Who asks for refresh leases. One caller a process does, once in a lease's time; while a
    lease stands, all others are served the old value and send nothing more than their read."""

    def __init__(self, filling: Filler, observer: Observer, lease_ms: int) -> None:
        self._filling = filling
        self._observer = observer
        self._lease_seconds = lease_ms / 1000
        # Until when somebody is at these keys, here or elsewhere.
        self._busy: dict[str, float] = {}

    def lease(self, key: EntryKey, asked: ReadSnapshot) -> Granted | None:
        """The refresh lease of a value that is due; None if somebody else has it."""
        now = time.monotonic()
        if self._busy.get(key, 0.0) > now:
            return None
        if len(self._busy) >= BUSY_MAX:
            self._busy.clear()  # which costs one command a key
        # Before asking, for the other threads: they need not ask too.
        self._busy[key] = now + self._lease_seconds
        try:
            got = self._filling.refresh(key, asked)
        except CacheUnavailable as error:
            self._observer.error("refresh", error)
            return None
        if isinstance(got, Held):
            self._busy[key] = now + got.remaining_ms / 1000
        return got if isinstance(got, Granted) else None

    def __repr__(self) -> str:
        return f"RefreshAhead({len(self._busy)} keys busy)"
