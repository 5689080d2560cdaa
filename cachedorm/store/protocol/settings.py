"""The settings of a region as the store takes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """The settings of a region, times in ms. ``jitter``: the largest share of a TTL cut off.

    ``refresh_ahead_ms``: how long before it expires one reader refreshes an entry; 0 = never.
    ``stale_if_error_ms``: how long after that an entry is served while the database is down.
    """

    name: str
    db: int
    ttl_ms: int
    negative_ttl_ms: int = 60_000
    jitter: float = 0.05
    lease_ms: int = 3000
    wait_ms: int = 200
    intent_ms: int = 30_000
    intents: bool = True
    refresh_ahead_ms: int = 0
    stale_if_error_ms: int = 0
