"""How long what is filled lives: a frozen clock and this process's memory."""

import pytest

from cachedorm.observe import Stats
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.memory.slots import MemorySlots
from cachedorm.store.protocol.entry import ABSENT, Format
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.settings import RegionSettings

TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
KEY = EntryKey("k", ("~s:t",), TEXT)
HOUR_MS = 3_600_000


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def region_of(clock: Clock, jitter: float = 0.0) -> CachedRegion:
    settings = RegionSettings("my", 0, HOUR_MS, negative_ttl_ms=60_000, jitter=jitter)
    return CachedRegion(settings, MemorySlots(clock=clock), Stats())


@pytest.mark.parametrize("jitter", [0.05, 0.5])
def test_jitter_only_shortens(clock: Clock, jitter: float) -> None:
    """At most so much of the TTL is taken off; entries made together do not end together."""
    filling = region_of(clock, jitter).entries.filler
    ttls = {filling.ttl_ms(KEY) for _ in range(500)}

    assert HOUR_MS * (1 - jitter) - 1 <= min(ttls)
    assert max(ttls) <= HOUR_MS
    assert len(ttls) > 100


def test_no_jitter_is_exact(clock: Clock) -> None:
    """jitter=0 is off; a key's own TTL goes before the region's, absence has its own."""
    filling = region_of(clock).entries.filler

    assert filling.ttl_ms(KEY) == HOUR_MS
    assert filling.ttl_ms(EntryKey("k", (), TEXT, 5000)) == 5000
    assert filling.ttl_ms(KEY, absent=True) == 60_000


def test_a_rows_own_ttl_is_exact(clock: Clock) -> None:
    """A token that is valid until a moment is cached until that moment."""
    region = region_of(clock, jitter=0.5)
    region.fill(KEY, lambda: Loaded("token", ttl_ms=7_200_000))

    clock.now = 7199.999
    assert region.get(KEY) == "token"
    clock.now = 7200.001
    assert region.get(KEY) is NO_VALUE


def test_absence_is_short(clock: Clock) -> None:
    """That there is no such row is remembered for its own time."""
    region = region_of(clock)
    region.fill(KEY, lambda: Loaded(ABSENT))

    clock.now = 59.0
    assert region.get(KEY) is ABSENT
    clock.now = 61.0
    assert region.get(KEY) is NO_VALUE
