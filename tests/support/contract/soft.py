"""Values at a chosen moment of their lives, and a database that can be down."""

from dataclasses import replace

from cachedorm.observe import Stats
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.entry import value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.runtime.clock import now_ms
from tests.support.contract.places import DB, TTL_MS, Place

LONG_AGO_MS = 10 * TTL_MS
SOON_MS = 20_000
# Due 30 s before its time is up; a value that ends SOON is due now.
AHEAD = RegionSettings(
    "my", DB, ttl_ms=TTL_MS, lease_ms=30_000, wait_ms=100, refresh_ahead_ms=30_000
)
STALE = RegionSettings(
    "my", DB, ttl_ms=TTL_MS, lease_ms=30_000, wait_ms=100, stale_if_error_ms=600_000
)
BOTH = replace(STALE, refresh_ahead_ms=30_000)
HARD = replace(AHEAD, refresh_ahead_ms=0)


class DownError(ConnectionError):
    """The database cannot be reached."""


class Database:
    """What loads answer, or raise, and how often they were asked."""

    def __init__(self, value: object = "new") -> None:
        self.value = value
        self.queries = 0

    def load(self) -> Loaded:
        self.queries += 1
        if isinstance(self.value, Exception):
            raise self.value
        return Loaded(self.value)


def region_of(place: Place, settings: RegionSettings) -> tuple[CachedRegion, Stats]:
    """A region as another process would have one."""
    stats = Stats()
    return CachedRegion(settings, place.slots, stats), stats


def stand(
    place: Place,
    key: EntryKey,
    text: str | None,
    *,
    up_ms: int,
    age_ms: int = LONG_AGO_MS,
    outlives: bool = False,
) -> bytes:
    """Have a value stand there (None: an absence) whose time is up in so many ms; its bytes."""
    lease, now = place.lease(key), now_ms()
    slot = value_slot(
        key.form,
        lease.server,
        lease.stamps,
        (text or "").encode(),
        absent=text is None,
        created_ms=now - age_ms,
        soft_ms=now + up_ms,
        outlives=outlives,
    )
    assert place.slots.publish(DB, key, lease.token, slot, TTL_MS)
    return slot
