"""The soft moments of a value's life: from when it is refreshed, and when its time is up.

    created ............... due ............ up ................ its key ends
            served              served, one       served only while
                                 refreshes        the database is down

``soft_ms`` in its header is *up*. Readers compare it with their own clocks, so those should agree
with the publishers' within what a second or two more or less matters; the end of the key is
Redis', and bounds what any clock can do. Jitter only ever makes a moment earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cachedorm.store.protocol.entry import created_ms_of, is_kept, soft_ms_of

if TYPE_CHECKING:
    from cachedorm.store.protocol.settings import RegionSettings

Outage: TypeAlias = Callable[[BaseException], bool]
"""Whether an error that a load raised says that the database cannot be reached."""


@dataclass(frozen=True, slots=True)
class Life:
    """How a value is stored: two fields of its header, and how long its key lives."""

    soft_ms: int
    outlives: bool
    key_ms: int


def life_of(
    settings: RegionSettings, now_ms: int, ttl_ms: int, *, own: bool, chance: float
) -> Life:
    """The life of a value published now. ``own``: its row says when it ends, so then it ends.

    ``chance``, between 0 and 1, is the share of the region's jitter that it gets.
    """
    if settings.stale_if_error_ms and not own:
        # The time to live has had its jitter; what it says now is a promise.
        return Life(now_ms + ttl_ms, True, ttl_ms + settings.stale_if_error_ms)
    if settings.refresh_ahead_ms:
        earlier_ms = int(ttl_ms * settings.jitter * chance)
        return Life(now_ms + ttl_ms - earlier_ms, False, ttl_ms)
    return Life(0, False, ttl_ms)


def is_due(slot: bytes, now_ms: int, ahead_ms: int) -> bool:
    """Whether this servable value is to be refreshed: ``ahead_ms`` before its time is up, but not
    in the first half of its life."""
    up_ms = soft_ms_of(slot)
    if up_ms - ahead_ms > now_ms:
        return False  # as nearly every hit
    if not up_ms or is_kept(slot):
        # Without a moment; or the database was down a moment ago.
        return False
    created_ms = created_ms_of(slot) or 0
    return up_ms - min(ahead_ms, (up_ms - created_ms) // 2) <= now_ms


def may_be_kept(slot: bytes, now_ms: int, stale_if_error_ms: int) -> bool:
    """Whether this value, whose load has failed, is to be served for a little longer."""
    return bool(stale_if_error_ms) and soft_ms_of(slot) <= now_ms


def is_os_error(error: BaseException) -> bool:
    """The outages that are known without knowing the database."""
    return isinstance(error, OSError)
