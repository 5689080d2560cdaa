"""The soft times of a value: when it is refreshed, and when it expires before its key does.

    created ............... due ............ soft_ms ............... TTL of the key
            served              served, one           served only while
                                 refreshes            the database is down

``soft_ms`` stands in the value's header. Readers compare it with their own clocks, which should
agree with the publishers' within a second or two. The TTL of the key is Redis' own and bounds the
effect of a wrong clock. Jitter only makes a time earlier.
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
    """The life of a value published now. ``own``: the row itself states when it expires.

    ``chance``, between 0 and 1, is the share of the region's jitter that is applied.
    """
    if settings.stale_if_error_ms and not own:
        # The time to live includes its jitter already.
        return Life(now_ms + ttl_ms, True, ttl_ms + settings.stale_if_error_ms)
    if settings.refresh_ahead_ms:
        earlier_ms = int(ttl_ms * settings.jitter * chance)
        return Life(now_ms + ttl_ms - earlier_ms, False, ttl_ms)
    return Life(0, False, ttl_ms)


def is_due(slot: bytes, now_ms: int, ahead_ms: int) -> bool:
    """Whether this servable value is due for a refresh: ``ahead_ms`` before it expires, but not in
    the first half of its life."""
    up_ms = soft_ms_of(slot)
    if up_ms - ahead_ms > now_ms:
        return False  # nearly every hit
    if not up_ms or is_kept(slot):
        # It expires with its key; or the database was down a moment ago.
        return False
    created_ms = created_ms_of(slot) or 0
    return up_ms - min(ahead_ms, (up_ms - created_ms) // 2) <= now_ms


def may_be_kept(slot: bytes, now_ms: int, stale_if_error_ms: int) -> bool:
    """Whether this value may be served longer, its load having failed."""
    return bool(stale_if_error_ms) and soft_ms_of(slot) <= now_ms


def is_os_error(error: BaseException) -> bool:
    """Whether the error is an outage, as far as can be said without knowing the database."""
    return isinstance(error, OSError)
