"""The dogpile.cache backends ``cachedorm.redis`` and ``cachedorm.memory``, for plain dogpile users.

::

    region = make_region().configure("cachedorm.redis", arguments={"url": "redis://localhost/1"})

Late fills are refused, and a stampede is one load. If Redis is unavailable, reads miss and
deletions are queued; they are delivered before this process reads the database again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from dogpile.cache import register_backend

from cachedorm.errors import ArgumentError
from cachedorm.observe import LogObserver, Observers
from cachedorm.store.dogpile.entries_backend import SlotsBackend
from cachedorm.store.entries.plain_values import PLAIN_STAMP
from cachedorm.store.entries.timed import entries_for
from cachedorm.store.memory.slots import MAX_ENTRIES, MemorySlots
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.store import Store

DAY_SECONDS: Final = 24 * 3600


class StoreBackend(SlotsBackend):
    """A backend that owns its store. ``close`` it when the region is no longer used."""

    def __init__(self, store: Store, settings: RegionSettings, observer: Observers) -> None:
        super().__init__(entries_for(settings, store.slots, observer, store))
        self._store = store
        store.introduce(settings)
        store.know(settings.db, (PLAIN_STAMP,))

    def close(self) -> None:
        """Deliver the queued invalidations, and drop the connections."""
        self._store.close()


class RedisBackend(StoreBackend):
    """``cachedorm.redis``. Arguments (times in seconds):

    ``url``: with the database, as in ``redis://localhost:6379/1`` (or ``db``) · ``ttl``: one day ·
    ``lease``: how long one load may take, 3 · ``wait``: for another process's load, 0.2 ·
    ``name``: of the region, for the ``observer`` · ``jitter``: 0.05 ·
    ``connect_timeout`` and ``operation_timeout``: 0.25.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = dict(arguments)
        url, named = _database_of(given.pop("url", "redis://localhost:6379"))
        db = int(given.pop("db", named))
        limits: dict[str, Any] = {
            name: float(given.pop(name))
            for name in ("connect_timeout", "operation_timeout")
            if name in given
        }
        observer = _observer(given)
        store = Store.connect(url, observer=observer, **limits)
        super().__init__(store, _settings(db, given), observer)


class MemoryBackend(StoreBackend):
    """``cachedorm.memory``. Arguments: those of ``cachedorm.redis`` that are not about Redis, and
    ``max_entries``, 100 000."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = dict(arguments)
        observer = _observer(given)
        slots = MemorySlots(int(given.pop("max_entries", MAX_ENTRIES)))
        super().__init__(Store(slots, observer=observer), _settings(0, given), observer)


def _database_of(url: str) -> tuple[str, int]:
    """Split the URL from its database, which is its path or ``db`` in its query."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = query.pop("db", [""])[-1]
    server = url.partition("?")[0]
    if parts.scheme != "unix":  # there the path is the socket's
        named = parts.path.strip("/") or named
        server = f"{parts.scheme}://{parts.netloc}"
    if named and not named.isdecimal():
        raise ArgumentError(
            f"the Redis URL ends in {named!r}, which is not a database number; give one, as in"
            " redis://localhost:6379/1"
        )
    rest = urlencode(query, doseq=True)
    return (f"{server}?{rest}" if rest else server), int(named or 0)


def _observer(given: dict[str, Any]) -> Observers:
    return Observers.of(given.pop("observer", None) or LogObserver())


def _settings(db: int, given: dict[str, Any]) -> RegionSettings:
    """Return the region's settings; arguments left over raise ArgumentError."""
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
    return settings


def _ms(seconds: Any) -> int:
    return int(float(seconds) * 1000)


# As the installed package's entry points do; a checkout has none.
register_backend("cachedorm.redis", __name__, "RedisBackend")  # type: ignore[no-untyped-call]
register_backend("cachedorm.memory", __name__, "MemoryBackend")  # type: ignore[no-untyped-call]
