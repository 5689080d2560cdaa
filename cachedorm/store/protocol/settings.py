"""A region's numbers, as the store takes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """A region's numbers. ``jitter``: the share of its TTL that an entry may live less.

    ``refresh_ahead_ms``: so long before its end one reader refreshes an entry, 0 = nobody.
    ``stale_if_error_ms``: so long after it an entry answers while the database is down.
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
