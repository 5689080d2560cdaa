"""Refreshing ahead of expiry: which caller of this process reads the database again."""

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
    """Ask for refresh leases: one caller per process, once per lease time.

    While a lease stands, all other callers get the old value and send only their read."""

    def __init__(self, filling: Filler, observer: Observer, lease_ms: int) -> None:
        self._filling = filling
        self._observer = observer
        self._lease_seconds = lease_ms / 1000
        # Until when a refresh of these keys is under way, in this process or another.
        self._busy: dict[str, float] = {}

    def lease(self, key: EntryKey, asked: ReadSnapshot) -> Granted | None:
        """Return the refresh lease of a value that is due, or None if another caller has it."""
        now = time.monotonic()
        if self._busy.get(key, 0.0) > now:
            return None
        if len(self._busy) >= BUSY_MAX:
            self._busy.clear()  # costs one command per key
        # Set before the command is sent, so that other threads do not send it too.
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
